// A file server on localhost whose faults the tests choose.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

export interface Served {
  body: Buffer;
  etag?: string;
  lastModified?: string;
  /** Other headers. */
  headers?: Record<string, string>;
}

export interface Logged {
  method: string;
  path: string;
  range: string | undefined;
  headers: IncomingMessage["headers"];
}

export class FileServer {
  readonly files = new Map<string, Served>();
  readonly log: Logged[] = [];
  origin = "";
  ranges = true;
  /** Headers left out, as a CORS server hides them. */
  hidden: string[] = [];
  /** Takes a request over; true if it did. */
  fault: ((request: Logged, response: ServerResponse) => boolean) | null = null;
  /** Most bodies in flight at once. */
  peak = 0;
  #running = 0;
  readonly #server = createServer((request, response) => this.#answer(request, response));

  static async start(test: TestContext): Promise<FileServer> {
    const server = new FileServer();
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    server.origin = `http://127.0.0.1:${(server.#server.address() as AddressInfo).port}`;
    test.after(() => server.stop());
    return server;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Ranges asked for, the probe of one byte left out. */
  shardRanges(): string[] {
    return this.log.flatMap(({ range }) => (range && range !== "bytes=0-0" ? [range] : []));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const logged: Logged = {
      method: request.method ?? "",
      path: request.url ?? "",
      range: request.headers.range,
      headers: request.headers,
    };
    this.log.push(logged);
    this.peak = Math.max(this.peak, ++this.#running);
    response.on("close", () => this.#running--);
    if (this.fault?.(logged, response)) return;
    const file = this.files.get(logged.path);
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    const size = file.body.length;
    const headers: Record<string, string | number> = { ...file.headers };
    if (file.etag) headers["ETag"] = file.etag;
    if (file.lastModified) headers["Last-Modified"] = file.lastModified;
    const range = /^bytes=(\d+)-(\d+)$/.exec(logged.range ?? "");
    let body = file.body;
    let status = 200;
    if (range && this.ranges) {
      const end = Math.min(Number(range[2]), size - 1);
      body = file.body.subarray(Number(range[1]), end + 1);
      status = 206;
      headers["Content-Range"] = `bytes ${range[1]}-${end}/${size}`;
    }
    headers["Content-Length"] = body.length;
    for (const name of this.hidden) delete headers[name];
    response.writeHead(status, headers);
    if (request.method === "HEAD") response.end();
    else response.end(body);
  }
}
