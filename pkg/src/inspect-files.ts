/** The worker's part of an inspection: reads the headers of a model's files, and no more of them. */
import { SharedFile, type CrossOriginStorage } from "./cross-origin.js";
import { CorruptFileError } from "./errors.js";
import { Exchange, retrying, TransientError, type NetworkEnv } from "./exchange.js";
import { Fetcher, type Probe } from "./fetcher.js";
import { OpenedFile } from "./model-file.js";
import type { FileSpec, RemoteFile } from "./protocol.js";
import { refuseOther } from "./recognise.js";
import type { Bytes, Inspector, InspectorClass } from "./runtime.js";
import { shardCount, type Manifest, type ShardStore } from "./store.js";

/** What reading headers needs from the browser. */
export interface InspectEnv extends NetworkEnv {
  /** Null if nothing can be stored. */
  store: ShardStore | null;
  crossOrigin: CrossOriginStorage | null;
}

/** Takes a header's next bytes; true when it is complete. */
type Push = (bytes: Bytes) => boolean;

/** A file whose header is to be read. */
interface Headed {
  /** Bytes of the whole file. */
  size: number;
  /** For messages. */
  label: string;
  /** Pushes the file's bytes from its start until the header is complete. Resolves to whether it is. */
  read(push: Push): Promise<boolean>;
}

/** Reads the headers of a model's files, in order. Gives an inspector that has them, and the files' sizes. */
export async function inspectFiles(
  Inspector: InspectorClass,
  files: readonly FileSpec[],
  env: InspectEnv,
  signal: AbortSignal,
): Promise<{ inspector: Inspector; sizes: number[] }> {
  const remote = files.filter((file) => file.kind === "url");
  const stored = (await env.store?.find(remote)) ?? [];
  const opened = await Promise.all(
    files.map((file) =>
      file.kind === "file"
        ? openedFile(new OpenedFile(file.file))
        : open(file, stored[remote.indexOf(file)] ?? null, env, signal),
    ),
  );
  const sizes = opened.map(({ size }) => size);
  const inspector = new Inspector(Float64Array.from(sizes));
  try {
    for (const [index, file] of opened.entries()) await readHeader(inspector, index, file);
    return { inspector, sizes };
  } catch (error) {
    inspector.free();
    throw error;
  }
}

async function readHeader(inspector: Inspector, index: number, file: Headed): Promise<void> {
  let isFirst = true;
  const complete = await file.read((bytes) => {
    if (isFirst && index === 0) refuseOther(file.label, bytes);
    isFirst = false;
    return inspector.push_header(index, bytes) === 0;
  });
  if (!complete)
    throw new CorruptFileError(`${file.label} ends within its header: it is cut off or no GGUF file.`);
}

async function open(
  file: RemoteFile,
  stored: Manifest | null,
  env: InspectEnv,
  signal: AbortSignal,
): Promise<Headed> {
  if (stored?.complete && env.store) return storedFile(file, env.store, stored);
  const sha256 = stored?.shared ? (stored.sha256 ?? stored.announced) : null;
  const shared = new SharedFile(env.crossOrigin, sha256, stored?.size ?? null);
  const there = await shared.open();
  if (there)
    return {
      size: there.size,
      label: file.url,
      read: (push) => readShards(there.size, (i) => shared.shard(i), push),
    };
  // Takes no bytes of the file, and knows every way in which servers tell its size.
  const probing = new Fetcher(file, env, signal, () => undefined, { keepStream: false, whole: false });
  const probe = await probing.probe();
  return { size: probe.size, label: file.url, read: (push) => fetchHeader(file, probe, env, signal, push) };
}

function openedFile(file: OpenedFile): Headed {
  return {
    size: file.size,
    label: file.label,
    read: (push) => readShards(file.size, (i) => file.read(i), push),
  };
}

function storedFile(file: RemoteFile, store: ShardStore, manifest: Manifest): Headed {
  const { size } = manifest;
  const read = (push: Push) => readShards(size, (index) => store.read(manifest, index), push);
  return { size, label: file.url, read };
}

async function readShards(
  size: number,
  read: (index: number) => Promise<Bytes | null>,
  push: Push,
): Promise<boolean> {
  for (let index = 0; index < shardCount(size); index++) {
    const bytes = await read(index);
    if (bytes === null) return false;
    if (push(bytes)) return true;
  }
  return false;
}

/** Reads one answer until the header is complete, and then drops the connection. */
async function fetchHeader(
  file: RemoteFile,
  { size, ranges }: Probe,
  env: InspectEnv,
  signal: AbortSignal,
  push: Push,
): Promise<boolean> {
  let at = 0;
  return retrying(env, file.url, signal, async () => {
    const headers = { ...file.headers, ...(ranges && { Range: `bytes=${at}-${size - 1}` }) };
    const exchange = await Exchange.open(env, file.url, { headers }, signal);
    try {
      // Without ranges, the answer begins with what is there already.
      let known = exchange.response.status === 200 ? at : 0;
      for (let chunk; (chunk = await exchange.read(signal));) {
        const part = chunk.subarray(known);
        known = Math.max(0, known - chunk.length);
        if (part.length === 0) continue;
        at += part.length;
        if (push(part)) return true;
      }
      if (at < size) throw new TransientError(`the answer was cut after ${at} of ${size} bytes`);
      return false;
    } finally {
      exchange.close();
    }
  });
}
