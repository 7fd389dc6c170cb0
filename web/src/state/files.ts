import { AbortedError, InvalidRequestError } from "nomoat";
import { NotGgufError } from "../lib/errors";
import { followChoice } from "./engine";
import { passes } from "./inspect";
import { openFiles } from "./models";
import { dialog, notice } from "./ui";

/** The first bytes of every GGUF file. */
const MAGIC = "GGUF";
/** A part of a split model: its number and how many there are. */
const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;

async function checkFile(file: File): Promise<void> {
  const isNamed = /\.gguf$/i.test(file.name);
  if (!isNamed || (await file.slice(0, MAGIC.length).text()) !== MAGIC) throw new NotGgufError(file.name);
}

/** Throws unless the files are one file or all parts of a split model. */
function checkParts(files: readonly File[]): void {
  const names = new Set(files.map(({ name }) => name.replace(PART, "-of-$2.gguf")));
  const count =
    files.length === 1 && !PART.test(files[0]?.name ?? "") ? 1 : Number(PART.exec(files[0]?.name ?? "")?.[2]);
  if (names.size !== 1 || files.length !== count)
    throw new InvalidRequestError(files.map(({ name }) => name).join(", "), "model");
}

/** The files that are being read, until others are opened. */
let current: AbortController | null = null;

/**
 * Opens GGUF files from the disk and loads them. Until their header says that they run here, the model in use
 * stays.
 */
export async function openAndStart(files: readonly File[]): Promise<void> {
  current?.abort();
  const { signal } = (current = new AbortController());
  dialog.value = null;
  notice.value = { kind: "inspecting" };
  try {
    await Promise.all(files.map(checkFile));
    checkParts(files);
    const verdict = await passes(files, signal);
    if (signal.aborted) return;
    if (notice.value?.kind === "inspecting") notice.value = null;
    if (verdict === false) return;
    openFiles(files, verdict);
  } catch (error) {
    if (signal.aborted || error instanceof AbortedError) return;
    notice.value = { kind: "file", error, from: { isOwnFile: true } };
    return;
  }
  followChoice();
}
