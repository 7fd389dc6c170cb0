import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: ".",
  testMatch: "*.bench.ts",
  outputDir: "../results",
  workers: 1,
  // `cargo xtask bench` plans how long it takes.
  timeout: 0,
  reporter: [["line"]],
});
