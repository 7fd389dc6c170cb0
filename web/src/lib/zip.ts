import { downloadZip } from "client-zip";

/** A zip archive of files, by their paths. */
export async function zip(files: readonly (readonly [string, Blob])[]): Promise<Blob> {
  const response = downloadZip(files.map(([name, blob]) => ({ name, input: blob })));
  return response.blob();
}
