/** The tables of docs/api.md, and the parameters of OpenAI's own client. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./places.ts";

/** What the tables under a heading say: from a parameter's name to the text beside it. */
export function told(heading: string): Map<string, string> {
  const text = readFileSync(join(root, "docs/api.md"), "utf8");
  const [, section] = new RegExp(`^## ${heading}\\n(.*?)(?=^## )`, "ms").exec(text) ?? [];
  if (!section) throw new Error(`docs/api.md has no ${heading}`);
  const rows = Array.from(section.matchAll(/^\| (.*?) \| (.*) \|$/gm), ([, names = "", says = ""]) =>
    Array.from(names.matchAll(/`([\w.]+)`/g), ([, name = ""]) => [name, says] as const),
  );
  return new Map(rows.flat());
}

/** The parameters of an interface of the client `openai`. */
export function parameters(file: string, name: string): string[] {
  const text = readFileSync(join(root, "node_modules/openai/resources", file), "utf8");
  const [, body] = new RegExp(`export interface ${name} \\{\\n(.*?)^\\}`, "ms").exec(text) ?? [];
  const found = Array.from((body ?? "").matchAll(/^ {4}(\w+)\??:/gm), ([, parameter = ""]) => parameter);
  if (found.length === 0) throw new Error(`${file} has no parameters of ${name}`);
  return found;
}
