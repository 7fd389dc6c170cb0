/** Cross-Origin Storage for browsers that have none: its registry is a server that all sites ask. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import {
  FakeCrossOriginStorage,
  type HandleOptions,
  type HashRequest,
} from "../../pkg/test/fake-cross-origin.ts";

type Handle = Awaited<ReturnType<ReturnType<FakeCrossOriginStorage["of"]>["requestFileHandle"]>>;
type Writable = Awaited<ReturnType<Handle["createWritable"]>>;

/** Puts `navigator.crossOriginStorage` into a page or a worker. */
const SHIM = (server: string) => `
{
  const call = async (path, body) => {
    const answer = await fetch("${server}" + path, { method: "POST", body });
    if (answer.ok) return answer;
    throw new DOMException("refused", await answer.text());
  };
  const text = async (path, body) => (await call(path, body)).text();
  const crossOriginStorage = {
    async requestFileHandle(hash, options = {}) {
      const id = await text("/handle", JSON.stringify({ hash, options }));
      return {
        getFile: async () => new File([await (await call("/file/" + id)).arrayBuffer()], hash.value),
        createWritable: async () => {
          const stream = await text("/open/" + id);
          return {
            write: (bytes) => text("/write/" + stream, bytes),
            close: () => text("/close/" + stream),
            abort: () => text("/abort/" + stream),
          };
        },
      };
    },
  };
  Object.defineProperty(navigator, "crossOriginStorage", { value: crossOriginStorage });
}
`;

async function bodyOf(request: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return new Uint8Array(Buffer.concat(parts));
}

/** A registry that sites reach by the script `shim`. */
export class CrossOriginServer {
  readonly storage = new FakeCrossOriginStorage();
  readonly #handles: Handle[] = [];
  readonly #writables: Writable[] = [];
  readonly #server = createServer((request, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    this.#answer(request).then(
      (body) => response.end(body),
      (error: unknown) => response.writeHead(400).end(error instanceof Error ? error.name : "Error"),
    );
  });

  static async start(): Promise<CrossOriginServer> {
    const server = new CrossOriginServer();
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get shim(): string {
    return SHIM(`http://localhost:${(this.#server.address() as AddressInfo).port}`);
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage): Promise<Uint8Array | string> {
    const [, what, id] = (request.url ?? "").split("/");
    const body = await bodyOf(request);
    const [handle, writable] = [this.#handles[Number(id)], this.#writables[Number(id)]];
    switch (what) {
      case "handle": {
        const { hash, options } = JSON.parse(Buffer.from(body).toString()) as {
          hash: HashRequest;
          options: HandleOptions;
        };
        const storage = this.storage.of(request.headers.origin ?? "");
        return String(this.#handles.push(await storage.requestFileHandle(hash, options)) - 1);
      }
      case "file":
        return new Uint8Array((await (await handle?.getFile())?.arrayBuffer()) ?? []);
      case "open":
        if (handle) this.#writables.push(await handle.createWritable());
        return String(this.#writables.length - 1);
      case "write":
        await writable?.write(body);
        return "";
      case "close":
        await writable?.close();
        return "";
      default:
        await writable?.abort();
        return "";
    }
  }
}
