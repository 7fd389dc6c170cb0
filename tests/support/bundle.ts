/** Modules with the clients in them, for a page. */
import { build, type Alias } from "vite";

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
