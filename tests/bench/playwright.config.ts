import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: ".",
  testMatch: "*.bench.ts",
  outputDir: "../results",
  workers: 1,
  // `cargo xtask bench` limits the time by its plan.
  timeout: 0,
  reporter: [["line"]],
});
