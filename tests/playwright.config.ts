import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "e2e",
  outputDir: "results",
  globalSetup: "./support/setup.ts",
  // One browser at a time: each computes on all cores.
  workers: 1,
  // A software device reads some tokens a second. No test asserts a time.
  timeout: 180_000,
  expect: { timeout: 90_000 },
  reporter: [["list", { printSteps: false }]],
  forbidOnly: true,
});
