import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: ".",
  testMatch: "*.tries.ts",
  outputDir: "../results",
  workers: 1,
  // As long as the model writes.
  timeout: 0,
  reporter: [["list"]],
});
