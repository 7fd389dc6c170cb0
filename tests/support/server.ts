/** A server like one in production. It logs all requests, and fails on demand. */
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { extname, join, normalize } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";

/** A request that was answered, or whose connection was cut. */
export interface Logged {
  method: string;
  path: string;
  /** The `Range` header. */
  range: string | null;
  status: number;
  /** Bytes of the body that were sent. */
  sent: number;
}

/** How a path fails. */
export interface Fault {
  /** Connections are cut after this number of body bytes, over all requests. */
  cutAfter?: number;
  /** What is asked after that is answered with 503 and may be tried again at once, so that no test waits. */
  thenBusy?: boolean;
  /** Range headers are ignored. */
  noRanges?: boolean;
  /** This ETag replaces the file's own. */
  etag?: string;
  /** This status is answered without a body. */
  status?: number;
  /** The file is sent compressed: all of it, or the part that was asked for of what it compressed. */
  gzip?: "whole" | "parts";
  /** Milliseconds before an answer. */
  delay?: number;
  /** Milliseconds after each 64 KiB: little is under way when a connection is cut. */
  pace?: number;
}

const TYPES: Record<string, string> = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};

/** The headers of `cargo xtask chat`. */
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; " +
    "img-src 'self' data: blob:; connect-src 'self' https: http:; worker-src 'self' blob:; " +
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-cache",
};

/** A browser keeps what it stored for an origin, so no two sites may have the same. */
const usedOrigins = new Set<string>();

/** A site on a port of its own on localhost. */
export class Site {
  /** Every request, oldest first. */
  readonly log: Logged[] = [];
  /** Faults by URL path. */
  readonly faults = new Map<string, Fault>();
  /** Files besides those in folders: URL path to path on disk. */
  readonly files = new Map<string, string>();
  /** Answers that are not files: URL path to text. They are compressed for those who take that. */
  readonly texts = new Map<string, string>();
  /** Prefixes of paths whose answers lack the headers that isolate a page. */
  readonly open = new Set<string>();
  readonly #folders: [prefix: string, folder: string][];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(folders: [prefix: string, folder: string][]) {
    this.#folders = folders;
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  /** Serves folders under prefixes such as `/`; the first matching prefix counts. */
  static async start(folders: Record<string, string>): Promise<Site> {
    const site = new Site(Object.entries(folders));
    do {
      if (site.#server.listening) await new Promise((resolve) => site.#server.close(resolve));
      await new Promise<void>((resolve) => site.#server.listen(0, "127.0.0.1", resolve));
    } while (usedOrigins.has(site.origin));
    usedOrigins.add(site.origin);
    return site;
  }

  /** `http://localhost:port`, without a slash at the end. */
  get origin(): string {
    return `http://localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Closes all connections and stops the server. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Requests for a path since request number `since`. */
  asked(path: string, since = 0): Logged[] {
    return this.log.slice(since).filter((entry) => entry.path === path);
  }

  #find(path: string): string | null {
    const named = this.files.get(path);
    if (named) return named;
    for (const [prefix, folder] of this.#folders) {
      if (!path.startsWith(prefix)) continue;
      const rest = normalize(`/${path.slice(prefix.length)}`);
      const file = join(folder, rest.endsWith("/") ? `${rest}index.html` : rest);
      if (existsSync(file) && statSync(file).isFile()) return file;
    }
    return null;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    const entry: Logged = {
      method: request.method ?? "",
      path,
      range: request.headers.range ?? null,
      status: 0,
      sent: 0,
    };
    this.log.push(entry);
    const fault = this.faults.get(path) ?? {};
    if (fault.delay) await new Promise((resolve) => setTimeout(resolve, fault.delay));
    if (fault.cutAfter !== undefined && this.#left(path, fault.cutAfter) < 1) {
      entry.status = fault.thenBusy ? 503 : 0;
      if (fault.thenBusy) response.writeHead(503, { "Retry-After": 0 }).end();
      else request.socket.destroy();
      return;
    }
    const text = this.texts.get(path);
    const file = text === undefined ? this.#find(path) : null;
    const head = (status: number, headers: Record<string, string | number> = {}) => {
      entry.status = status;
      const isOpen = [...this.open].some((start) => path.startsWith(start));
      response.writeHead(status, { ...(isOpen ? {} : HEADERS), ...headers });
    };
    if (fault.status !== undefined || (text === undefined && file === null)) {
      head(fault.status ?? 404);
      response.end();
      return;
    }
    const type = TYPES[extname(file ?? path) || ".html"] ?? "application/octet-stream";
    if (file === null) {
      const isGzip = /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""));
      const sent = isGzip ? gzipSync(text ?? "") : Buffer.from(text ?? "");
      head(200, { "Content-Type": type, ...(isGzip && { "Content-Encoding": "gzip" }) });
      response.end(sent);
      return;
    }
    if (fault.gzip !== undefined) {
      // Level 0 makes it quick. The browser has to decode it all the same.
      const all = gzipSync(readFileSync(file), { level: 0 });
      const [from, to] = (/^bytes=(\d+)-(\d+)$/.exec(entry.range ?? "")?.slice(1) ?? []).map(Number);
      const isPart = fault.gzip === "parts" && from !== undefined && to !== undefined;
      const sent = isPart ? all.subarray(from, to + 1) : all;
      const range = { "Content-Range": `bytes ${from}-${to}/${all.length}` };
      head(isPart ? 206 : 200, { "Content-Type": type, "Content-Encoding": "gzip", ...(isPart && range) });
      entry.sent = sent.length;
      response.end(sent);
      return;
    }
    const { size, mtimeMs } = statSync(file);
    const range = fault.noRanges ? null : /^bytes=(\d+)-(\d*)$/.exec(entry.range ?? "");
    const start = Number(range?.[1] ?? 0);
    const end = Math.min(range?.[2] ? Number(range[2]) : size - 1, size - 1);
    const headers = {
      "Content-Type": type,
      "Content-Length": end - start + 1,
      ETag: fault.etag ?? `"${size.toString(16)}-${Math.round(mtimeMs).toString(16)}"`,
      ...(!fault.noRanges && { "Accept-Ranges": "bytes" }),
      ...(range && { "Content-Range": `bytes ${start}-${end}/${size}` }),
    };
    head(range ? 206 : 200, headers);
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const counter = new Transform({
      transform: (chunk: Buffer, _, done) => {
        const left = fault.cutAfter === undefined ? Infinity : this.#left(path, fault.cutAfter);
        const part = chunk.subarray(0, Math.min(chunk.length, left));
        entry.sent += part.length;
        if (part.length < chunk.length) {
          // The counted bytes are sent before the connection is cut.
          response.write(part, () => request.socket.destroy());
          return;
        }
        if (fault.pace === undefined) done(null, part);
        else setTimeout(() => done(null, part), fault.pace);
      },
    });
    // A browser may cancel a request.
    await pipeline(createReadStream(file, { start, end }), counter, response).catch(() => undefined);
  }

  #left(path: string, limit: number): number {
    return limit - this.asked(path).reduce((sum, { sent }) => sum + sent, 0);
  }
}

/** Requested ranges of shards, as `first-last` byte, without the request for the size of the file. */
export function shardRanges(asked: Logged[]): string[] {
  const ranges = asked.map(({ range }) => range?.replace("bytes=", "") ?? "all");
  return ranges.filter((range) => range !== "0-0").sort();
}

/** The text of a file in a folder. */
export function fileText(folder: string, name: string): string {
  return readFileSync(join(folder, name), "utf8");
}
