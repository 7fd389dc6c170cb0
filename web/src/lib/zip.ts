import { downloadZip } from "client-zip";
import { unzipSync } from "fflate";

/** A zip archive of files, by their paths. */
export async function zip(files: readonly (readonly [string, Blob])[]): Promise<Blob> {
  const response = downloadZip(files.map(([name, blob]) => ({ name, input: blob })));
  return response.blob();
}

/** Deflate makes files at most so many times smaller; an archive that says more is not what it seems. */
const MOST_DEFLATED = 1033;

/** The files of a zip archive that are wanted, by their paths. Throws if it is none. */
export async function unzip(archive: Blob, isWanted: (path: string) => boolean): Promise<[string, Blob][]> {
  const files = unzipSync(new Uint8Array(await archive.arrayBuffer()), {
    filter: ({ name, size, originalSize }) => isWanted(name) && originalSize <= MOST_DEFLATED * (size + 1),
  });
  return Object.entries(files).map(([path, bytes]) => [path, new Blob([bytes])]);
}
