import { NotGgufError } from "../lib/errors";
import { followChoice } from "./engine";
import { openFiles } from "./models";
import { dialog, notice } from "./ui";

/** The first bytes of every GGUF file. */
const MAGIC = "GGUF";

async function check(file: File): Promise<void> {
  const isNamed = /\.gguf$/i.test(file.name);
  if (!isNamed || (await file.slice(0, MAGIC.length).text()) !== MAGIC) throw new NotGgufError(file.name);
}

/** Opens the person's own GGUF files and loads them at once. Files that are none leave the running model alone. */
export async function openAndStart(files: readonly File[]): Promise<void> {
  dialog.value = null;
  notice.value = null;
  try {
    await Promise.all(files.map(check));
    openFiles(files);
  } catch (error) {
    notice.value = { kind: "file", error };
    return;
  }
  followChoice();
}
