/** Files that the page gives to the person. */

/** Saves a file. */
export function download(text: BlobPart, name: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // By then the browser has read the address.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The day, for the name of a file. */
export function today(): string {
  return new Date().toISOString().slice(0, 10);
}
