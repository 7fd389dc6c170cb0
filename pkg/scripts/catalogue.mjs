// Writes src/catalogue-data.ts from src/catalogue.json: a JSON module would break older browsers and some
// bundlers.
import { readFile, writeFile } from "node:fs/promises";

const source = new URL("../src/", import.meta.url);
const entries = JSON.parse(await readFile(new URL("catalogue.json", source), "utf8"));
await writeFile(
  new URL("catalogue-data.ts", source),
  `// Generated from catalogue.json by scripts/catalogue.mjs.\n` +
    `import type { CatalogueEntry } from "./catalogue.js";\n\n` +
    "// prettier-ignore\n" +
    `export const data: readonly CatalogueEntry[] = ${JSON.stringify(entries, null, 2)};\n`,
);
