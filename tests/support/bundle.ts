/** Modules with the clients in them, for a page. */
import { join } from "node:path";
import { build, type Alias } from "vite";
import { root } from "./places.ts";
import type { Site } from "./server.ts";

/** Serves a module of this folder as `/NAME.js`, bundled once for the site. */
export async function serveBundle({ texts }: Site, name: string): Promise<void> {
  const address = `/${name}.js`;
  if (!texts.has(address)) texts.set(address, await bundle(join(root, `tests/support/${name}.ts`)));
}

/** A module and what it imports as one text, but for what the site serves. `alias` replaces imports. */
export async function bundle(entry: string, alias: Alias[] = []): Promise<string> {
  const result = await build({
    configFile: false,
    logLevel: "warn",
    define: { "process.env.NODE_ENV": '"production"' },
    resolve: { alias },
    build: {
      write: false,
      minify: false,
      target: "es2022",
      lib: { entry, formats: ["es"] },
      rollupOptions: { external: /^\/pkg\// },
    },
  });
  const [output] = Array.isArray(result) ? result : [result];
  if (!output || !("output" in output)) throw new Error("vite made no bundle");
  return output.output[0].code;
}
