/** The code of a page of the docs. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./places.ts";

/** Writes a page's blocks of TypeScript as one module; its imports are found from here. Returns its path. */
export function moduleOf(page: string): string {
  const text = readFileSync(join(root, "docs", `${page}.md`), "utf8");
  const blocks = Array.from(text.matchAll(/^```ts\n(.*?)^```$/gms), ([, code]) => code);
  if (blocks.length === 0) throw new Error(`docs/${page}.md has no code`);
  const folder = join(root, "tests/results/docs");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${page}.ts`);
  writeFileSync(path, blocks.join("\n"));
  return path;
}
