/** Fetches shards of a remote file: with Range requests, or from one response if the server has no ranges. */
import { CorruptFileError, NetworkError } from "./errors.js";
import { Exchange, retrying, TransientError, type NetworkEnv } from "./exchange.js";
import type { RemoteFile } from "./protocol.js";
import { webPage } from "./recognise.js";
import type { Bytes } from "./runtime.js";
import { SHARD_SIZE, shardCount, shardLength } from "./store.js";

/** What tells versions of a file apart. A member is null if the server does not send or expose it. */
export interface Version {
  /** Bytes. */
  size: number;
  /** ETag without its `W/` prefix. */
  etag: string | null;
  lastModified: string | null;
  /** SHA-256 of the whole file as the server says, hex. */
  announced: string | null;
}

/**
 * Whether two answers are of the same version. Servers that share a name may each have an ETag or a date of
 * their own, so one of them is enough.
 */
export function sameVersion(a: Version, b: Version): boolean {
  if (a.size !== b.size) return false;
  if (a.announced && b.announced) return a.announced === b.announced;
  const compared = [
    [a.lastModified, b.lastModified],
    [a.etag, b.etag],
  ].filter(([mine, other]) => mine && other);
  return compared.length === 0 || compared.some(([mine, other]) => mine === other);
}

/** What the server reports about a file. */
export interface Probe extends Version {
  /** Whether the server answers Range requests. */
  ranges: boolean;
}

/** The part of a shard that has arrived. */
interface Arrival {
  bytes: Bytes;
  received: number;
}

/** The file on the server has changed since loading began: loading starts again. */
export class FileChangedError extends Error {
  constructor(
    readonly url: string,
    /** Stored version to delete first, if the server's headers cannot tell it from the new one. */
    readonly identity: string | null = null,
  ) {
    super(`${url} changed on the server while it was loaded.`);
  }
}

/** Fetches one remote file. */
export class Fetcher {
  readonly #file: RemoteFile;
  readonly #env: NetworkEnv;
  readonly #signal: AbortSignal;
  readonly #onBytes: (delta: number) => void;
  readonly #keepStream: boolean;
  readonly #whole: boolean;
  readonly #arrivals = new Map<number, Arrival>();
  #probe: Promise<Probe> | null = null;
  #ranges = true;
  /** How often the connection failed at the first answer. */
  #failures = 0;
  #stream: ShardStream | null = null;
  /** Shards of a stream come one after the other. */
  #streaming: Promise<unknown> = Promise.resolve();

  /**
   * `onBytes` counts bytes as they arrive; a negative number takes back bytes that must be fetched again.
   * With `keepStream`, the probe's response is kept for reading if the server has no ranges; this holds a
   * connection. With `whole`, all bytes come from one answer: answers to several requests might be of
   * different versions.
   */
  constructor(
    file: RemoteFile,
    env: NetworkEnv,
    signal: AbortSignal,
    onBytes: (delta: number) => void,
    { keepStream, whole }: { keepStream: boolean; whole: boolean },
  ) {
    this.#file = file;
    this.#env = env;
    this.#signal = signal;
    this.#onBytes = onBytes;
    this.#keepStream = keepStream || whole;
    this.#whole = whole;
  }

  /** Asks the server once for size, version and ranges. */
  probe(): Promise<Probe> {
    this.#probe ??= retrying(this.#env, this.#file.url, this.#signal, () => this.#ask());
    return this.#probe;
  }

  /** Fetches shard `index`. If its first bytes are in `start`, only the rest is fetched. */
  async shard(index: number, start: Bytes | null = null): Promise<Bytes> {
    const probe = await this.probe();
    if (this.#ranges) {
      const bytes = new Uint8Array(shardLength(probe.size, index));
      const arrival = { bytes, received: 0 };
      if (start && start.length < bytes.length) {
        bytes.set(start);
        arrival.received = start.length;
      }
      this.#arrivals.set(index, arrival);
      const whole = await retrying(this.#env, this.#file.url, this.#signal, () =>
        this.#range(probe, index, arrival),
      );
      this.#arrivals.delete(index);
      if (whole) return bytes;
      this.#onBytes(-arrival.received);
      this.#ranges = false;
    }
    const shard = this.#streaming.then(() =>
      retrying(this.#env, this.#file.url, this.#signal, () => this.#streamed(probe, index)),
    );
    this.#streaming = shard.catch(() => undefined);
    return shard;
  }

  /** The bytes that arrived of a shard whose download failed; null if there are none. */
  arrived(index: number): Bytes | null {
    const arrival = this.#arrivals.get(index);
    return arrival && arrival.received > 0 ? arrival.bytes.subarray(0, arrival.received) : null;
  }

  #open(method: string, range?: string): Promise<Exchange> {
    const headers = { ...this.#file.headers, ...(range && { Range: range }) };
    return Exchange.open(this.#env, this.#file.url, { method, headers }, this.#signal);
  }

  async #ask(): Promise<Probe> {
    const exchange = await this.#first();
    const { response } = exchange;
    const ranges = response.status !== 200;
    let size = ranges ? totalOf(response) : lengthOf(response);
    if (ranges) {
      // Read to the end, so that the connection can be reused.
      const first = await exchange.read(this.#signal);
      if (first?.length === 1) await exchange.read(this.#signal);
      exchange.close();
      size ??= await this.#sizeByHead();
    }
    const isPage = /^text\/html\b/i.test(response.headers.get("Content-Type") ?? "");
    if (isPage && (size === null || (this.#file.size !== null && size !== this.#file.size))) {
      exchange.close();
      throw webPage(this.#file.url);
    }
    size ??= this.#file.size;
    if (size === null) {
      exchange.close();
      throw new NetworkError(
        isCompressed(response)
          ? `The server compresses ${this.#file.url} and so does not say how large it is: it must send ` +
              "model files without Content-Encoding."
          : `The server does not say how large ${this.#file.url} is: it must send Content-Length, or ` +
              "expose Content-Range.",
      );
    }
    if (size === 0 || (this.#file.size !== null && size !== this.#file.size)) {
      exchange.close();
      throw new CorruptFileError(
        `${this.#file.url} has ${size} bytes` +
          (this.#file.size === null ? "." : `, not the ${this.#file.size} it should have.`),
      );
    }
    const probe = { ...versionOf(response, size), ranges };
    this.#ranges = ranges;
    if (!ranges && this.#keepStream) this.#stream = new ShardStream(exchange, size);
    else exchange.close();
    return probe;
  }

  /** The answer that says what the file is. It has the first byte, or everything if there are no ranges. */
  async #first(): Promise<Exchange> {
    if (this.#whole) return this.#open("GET");
    try {
      const exchange = await this.#open("GET", "bytes=0-0");
      if (exchange.response.status !== 206 || !isCompressed(exchange.response)) return exchange;
      // Parts of what the server compressed are no parts of the file.
      exchange.close();
      return await this.#open("GET");
    } catch (error) {
      if (!(error instanceof TransientError) || error.status !== undefined) throw error;
      // A browser that cannot decompress a part reports the connection as failed, and will again.
      this.#failures += 1;
      if (this.#failures === 1) throw error;
      const exchange = await this.#open("GET").catch(() => null);
      if (exchange !== null && isCompressed(exchange.response)) return exchange;
      exchange?.close();
      throw error;
    }
  }

  async #sizeByHead(): Promise<number | null> {
    try {
      const exchange = await this.#open("HEAD");
      exchange.close();
      return lengthOf(exchange.response);
    } catch (error) {
      if (error instanceof TransientError) throw error;
      return null; // The server does not answer HEAD.
    }
  }

  #checkSame(probe: Probe, response: Response): void {
    const total = response.status === 200 ? lengthOf(response) : totalOf(response);
    const changed = response.status === 416 || !sameVersion(probe, versionOf(response, total ?? probe.size));
    if (changed) throw new FileChangedError(this.#file.url);
  }

  /** One Range request for the rest of a shard; false if the server no longer answers Range requests. */
  async #range(probe: Probe, index: number, arrival: Arrival): Promise<boolean> {
    const { bytes } = arrival;
    const start = index * SHARD_SIZE + arrival.received;
    const end = index * SHARD_SIZE + bytes.length;
    const exchange = await this.#open("GET", `bytes=${start}-${end - 1}`);
    try {
      this.#checkSame(probe, exchange.response);
      if (exchange.response.status === 200) return false;
      const from = /^bytes (\d+)-/.exec(exchange.response.headers.get("Content-Range") ?? "")?.[1];
      if (from !== undefined && Number(from) !== start)
        throw new TransientError("the server sent another range than asked for");
      for (let chunk; (chunk = await exchange.read(this.#signal));) {
        if (arrival.received + chunk.length > bytes.length)
          throw new TransientError("the server sent more bytes than asked for");
        bytes.set(chunk, arrival.received);
        arrival.received += chunk.length;
        this.#onBytes(chunk.length);
      }
      if (arrival.received < bytes.length)
        throw new TransientError(`the answer was cut after ${arrival.received} of ${bytes.length} bytes`);
      return true;
    } finally {
      exchange.close();
    }
  }

  /** A shard from the stream, which is opened again if it is already past the shard. */
  async #streamed(probe: Probe, index: number): Promise<Bytes> {
    let counted = 0;
    try {
      if (!this.#stream || this.#stream.position > index) {
        this.#stream?.close();
        this.#stream = null;
        const exchange = await this.#open("GET");
        this.#stream = new ShardStream(exchange, probe.size);
        this.#checkSame(probe, exchange.response);
      }
      while (this.#stream.position < index) await this.#stream.next(this.#signal, () => undefined);
      return await this.#stream.next(this.#signal, (delta) => {
        counted += delta;
        this.#onBytes(delta);
      });
    } catch (error) {
      this.#stream?.close();
      this.#stream = null;
      this.#onBytes(-counted);
      throw error;
    }
  }
}

/** Cuts one response into shards, as they are requested. */
class ShardStream {
  /** Index of the next shard. */
  position = 0;
  readonly #exchange: Exchange;
  readonly #size: number;
  #rest: Bytes = new Uint8Array(0);

  constructor(exchange: Exchange, size: number) {
    this.#exchange = exchange;
    this.#size = size;
  }

  async next(signal: AbortSignal, onBytes: (delta: number) => void): Promise<Bytes> {
    const bytes = new Uint8Array(shardLength(this.#size, this.position));
    let received = 0;
    while (received < bytes.length) {
      const chunk = this.#rest.length > 0 ? this.#rest : await this.#exchange.read(signal);
      if (!chunk)
        throw new TransientError(
          `the answer was cut after ${this.position * SHARD_SIZE + received} of ${this.#size} bytes`,
        );
      const part = chunk.subarray(0, bytes.length - received);
      bytes.set(part, received);
      received += part.length;
      this.#rest = chunk.subarray(part.length);
      onBytes(part.length);
    }
    this.position += 1;
    if (this.position === shardCount(this.#size)) await this.#end(signal);
    return bytes;
  }

  async #end(signal: AbortSignal): Promise<void> {
    if (this.#rest.length > 0 || (await this.#exchange.read(signal)))
      throw new CorruptFileError(
        `The server sends more than the ${this.#size} bytes it announced: it must not compress model files.`,
      );
  }

  close(): void {
    this.#exchange.close();
  }
}

function versionOf({ headers }: Response, size: number): Version {
  return {
    size,
    etag: headers.get("ETag")?.replace(/^W\//, "") ?? null,
    lastModified: headers.get("Last-Modified"),
    // The hub's, of files in its large storage; for others it is no SHA-256.
    announced: /^"?([0-9a-f]{64})"?$/.exec(headers.get("X-Linked-ETag") ?? "")?.[1] ?? null,
  };
}

/** Total of `Content-Range: bytes 0-0/1234`; null if hidden or unknown. */
function totalOf(response: Response): number | null {
  const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
  return total === undefined ? null : Number(total);
}

/** Whether the browser decompresses the body, so that its length and its parts are not those of the file. */
function isCompressed(response: Response): boolean {
  return (response.headers.get("Content-Encoding") ?? "identity") !== "identity";
}

/** Content-Length, unless the response is compressed. */
function lengthOf(response: Response): number | null {
  const length = response.headers.get("Content-Length");
  return length === null || isCompressed(response) ? null : Number(length);
}
