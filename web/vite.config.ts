import { defineConfig } from "vite";
import type { Plugin } from "vite";
import { VitePWA } from "vite-plugin-pwa";

const fake = new URL("./dev/fake-nomoat.ts", import.meta.url).pathname;

/**
 * What the page may load, for hosts that send no such header; `frame-ancestors` works in a header only.
 * Models come from any address that the person gives. Not in development, where vite adds scripts of its own.
 */
const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "connect-src 'self' https: http:",
  "worker-src 'self' blob:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const policy: Plugin = {
  name: "content-security-policy",
  apply: "build",
  transformIndexHtml: () => [
    {
      tag: "meta",
      attrs: { "http-equiv": "Content-Security-Policy", content: POLICY },
      injectTo: "head-prepend",
    },
  ],
};

export default defineConfig(({ mode }) => ({
  // `--mode fake`: the page with a scripted engine, for work on the page without a GPU or a wasm build.
  resolve: mode === "fake" ? { alias: { nomoat: fake } } : {},
  // Preact's own JSX runtime comes from tsconfig.json (jsxImportSource).
  // The package finds its worker and wasm relative to its own files, which pre-bundling would move.
  optimizeDeps: { exclude: ["nomoat"] },
  worker: { format: "es" },
  build: {
    target: "es2022",
    // The content security policy has no `data:` for scripts or fonts.
    assetsInlineLimit: 0,
  },
  plugins: [
    policy,
    VitePWA({
      disable: mode === "fake",
      strategies: "injectManifest",
      srcDir: "sw",
      filename: "sw.ts",
      registerType: "prompt",
      injectRegister: false,
      manifest: {
        id: "/",
        name: "Nomoat",
        short_name: "Nomoat",
        description: "Chat with an open language model that runs in this browser, on this device.",
        start_url: "/",
        scope: "/",
        display: "standalone",
        categories: ["productivity", "utilities"],
        background_color: "#f5f4ef",
        theme_color: "#f5f4ef",
        icons: [
          { src: "/icon.svg", sizes: "any", type: "image/svg+xml" },
          { src: "/icon-192.png", sizes: "192x192", type: "image/png" },
          { src: "/icon-512.png", sizes: "512x512", type: "image/png" },
          { src: "/icon-maskable-512.png", sizes: "512x512", type: "image/png", purpose: "maskable" },
        ],
      },
      injectManifest: {
        // The shell, the workers and the wasm: every build, for without a server the CPU must be able to take
        // over from a GPU.
        globPatterns: ["**/*.{js,css,html,svg,png,webmanifest,wasm,woff2}"],
        globIgnores: ["**/*-latin-ext-*"],
        rollupFormat: "iife",
        maximumFileSizeToCacheInBytes: 32 * 1024 * 1024,
      },
    }),
  ],
}));
