// Cross-Origin Storage as its draft says, in memory: https://wicg.github.io/cross-origin-storage/
import { createHash } from "node:crypto";

type Written = Uint8Array<ArrayBuffer>;

interface Entry {
  /** Null while the first writer has not closed. */
  bytes: Written | null;
  writers: number;
  storing: Set<string>;
  global: boolean;
}

export interface HashRequest {
  algorithm: string;
  value: string;
}

export interface HandleOptions {
  create?: boolean;
  origins?: string | string[];
}

const failed = (name: string) => new DOMException(`made by the fake: ${name}`, name);

/** The registry of one browser. */
export class FakeCrossOriginStorage {
  readonly #entries = new Map<string, Entry>();
  /** What sites asked for, as "site read hash" or "site create hash". */
  readonly log: string[] = [];
  /** Whether the person lets sites use it. */
  allowed = true;
  /** Whether a hash is on the Public Hash List. Others are only for the sites that stored them. */
  isPublic: (value: string) => boolean = () => true;
  /** Bytes that one site may store. */
  quota = Infinity;

  /** Hashes of complete files. */
  get stored(): string[] {
    return [...this.#entries].flatMap(([value, { bytes }]) => (bytes ? [value] : []));
  }

  /** Deletes a file, as a browser may at any time. */
  evict(value: string): void {
    this.#entries.delete(value);
  }

  /** Stores other bytes under a hash, as a faulty disk or browser would. */
  damage(value: string, bytes: Written): void {
    this.#entries.set(value, { bytes, writers: 0, storing: new Set(), global: true });
  }

  /** `navigator.crossOriginStorage` of a site. */
  of(origin: string) {
    return {
      requestFileHandle: async (hash: HashRequest, options: HandleOptions = {}) => {
        this.log.push(`${origin} ${options.create ? "create" : "read"} ${hash.value}`);
        if (!this.allowed) throw failed("NotAllowedError");
        if (hash.algorithm.toUpperCase() !== "SHA-256" || !/^[0-9a-f]{64}$/.test(hash.value))
          throw new TypeError("a hash is 64 lower-case hexadecimal digits");
        return options.create ? this.#create(origin, hash.value, options) : this.#read(origin, hash.value);
      },
    };
  }

  #read(origin: string, value: string) {
    const entry = this.#entries.get(value);
    if (entry && !entry.bytes) throw failed("NotAllowedError");
    const mayRead = entry?.storing.has(origin) || (entry?.global && this.isPublic(value));
    if (!entry?.bytes || !mayRead) throw failed("NotFoundError");
    return handle(async () => new File([entry.bytes ?? ""], value));
  }

  #create(origin: string, value: string, { origins }: HandleOptions) {
    const entry = this.#entries.get(value) ?? { bytes: null, writers: 0, storing: new Set(), global: false };
    this.#entries.set(value, entry);
    entry.writers += 1;
    let isWritten = false;
    const close = (bytes: Written) => {
      entry.writers -= 1;
      const isRight = createHash("sha256").update(bytes).digest("hex") === value;
      if (!isRight || bytes.length > this.quota) {
        if (!entry.bytes && entry.writers === 0) this.#entries.delete(value);
        throw failed(isRight ? "QuotaExceededError" : "DataError");
      }
      isWritten = true;
      entry.bytes ??= bytes;
      entry.storing.add(origin);
      if (origins === "*") entry.global = true;
    };
    const read = async () => {
      if (!isWritten) throw failed("NotAllowedError");
      return new File([entry.bytes ?? ""], value);
    };
    return handle(read, close);
  }
}

function handle(getFile: () => Promise<File>, close?: (bytes: Written) => void) {
  return {
    getFile,
    async createWritable() {
      if (!close) throw failed("NotAllowedError");
      const written: Written[] = [];
      let isOpen = true;
      const end = (bytes: Written) => {
        if (!isOpen) throw new TypeError("the stream is closed");
        isOpen = false;
        close(bytes);
      };
      return {
        async write(bytes: Written) {
          if (!isOpen) throw new TypeError("the stream is closed");
          written.push(bytes.slice());
        },
        close: async () => end(new Uint8Array(Buffer.concat(written))),
        // Nothing was written, so an entry that was begun is dropped.
        abort: async () => {
          try {
            end(new Uint8Array());
          } catch {
            return;
          }
        },
      };
    },
  };
}
