import { failEngine, followChoice } from "./engine";
import { openFiles } from "./models";
import { dialog } from "./ui";

/** Opens the person's own GGUF files and loads them at once. */
export function openAndStart(files: readonly File[]): void {
  dialog.value = null;
  try {
    openFiles(files);
  } catch (error) {
    failEngine(error);
    return;
  }
  followChoice();
}
