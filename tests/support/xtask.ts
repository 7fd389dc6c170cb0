/** The real server, as a user starts it. */
import { spawn } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import { root } from "./places.ts";

/** A running `cargo xtask chat`. */
export interface ChatServer {
  url: string;
  /** Kills it and waits until it has ended. */
  kill(): Promise<void>;
}

export async function startChat(): Promise<ChatServer> {
  const port = String(await freePort());
  // A process group of its own, because cargo runs the server as a child.
  const cargo = spawn("cargo", ["xtask", "chat", "--no-open", "--port", port], { cwd: root, detached: true });
  const ended = new Promise<void>((resolve) => cargo.on("close", () => resolve()));
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const read = (bytes: Buffer) => {
      output += bytes.toString();
      const found = /Nomoat is at (\S+)/.exec(output)?.[1];
      if (found) resolve(found);
    };
    cargo.stdout.on("data", read);
    cargo.stderr.on("data", read);
    cargo.on("error", reject);
    cargo.on("close", (code) => reject(new Error(`cargo xtask chat ended with ${code}:\n${output}`)));
  });
  return {
    url,
    async kill() {
      if (cargo.pid !== undefined && cargo.exitCode === null && cargo.signalCode === null)
        process.kill(-cargo.pid, "SIGKILL");
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
