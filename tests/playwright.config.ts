import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "e2e",
  outputDir: "results",
  globalSetup: "./support/setup.ts",
  // Most tests wait more than they compute.
  workers: 2,
  // A software adapter computes a few tokens per second. No test asserts a time.
  timeout: 400_000,
  expect: { timeout: 150_000 },
  reporter: [["list", { printSteps: false }]],
  forbidOnly: true,
});
