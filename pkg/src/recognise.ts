/** What a file is that should be a model and is not: servers send other things under a model's address. */
import { CorruptFileError } from "./errors.js";

const LFS_POINTER = "version https://git-lfs.github.com/spec/";
/** How HTML and XML begin. */
const MARKUP = /^\s*<[!?a-z]/i;

/** Throws if a file begins as a web page or as a Git LFS pointer does. `label` names it. */
export function refuseOther(label: string, start: Uint8Array): void {
  // Without a byte order mark, which the decoder takes away.
  const text = new TextDecoder().decode(start.subarray(0, 256));
  if (text.startsWith(LFS_POINTER)) throw lfsPointer(label);
  if (MARKUP.test(text)) throw webPage(label);
}

/** The error for a web page in place of a file. */
export function webPage(label: string): CorruptFileError {
  return new CorruptFileError(
    `${label} is not a model but a web page. Give the address of the file itself; if it is that already, ` +
      "the server may ask for a login.",
  );
}

function lfsPointer(label: string): CorruptFileError {
  return new CorruptFileError(
    `${label} is not a model but a Git LFS pointer, a small text in place of the file. Download the file ` +
      "itself: its address on a hub has /resolve/ in it, and in a repository `git lfs pull` fetches it.",
  );
}
