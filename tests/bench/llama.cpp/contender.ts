/** llama.cpp natively, in a Node process: a reference for the runtimes in the browser. */
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Answer, Contender } from "../contenders.ts";
import manifest from "./package.json" with { type: "json" };

let child: ChildProcess | null = null;
let lines: AsyncIterator<string>;

async function heard<T>(): Promise<T> {
  const { value, done } = await lines.next();
  if (done) throw new Error("native llama.cpp has ended");
  return JSON.parse(value as string) as T;
}

/** `model` is a GGUF file, `context` the context length in tokens. */
export const nativeLlama = (model: string, context: number): Contender => ({
  name: "llama.cpp",
  version: `(node-llama-cpp ${manifest.devDependencies["node-llama-cpp"]})`,
  native: true,
  async load(_page, { threads = 1 }) {
    const script = join(import.meta.dirname, "serve.mjs");
    child = spawn(process.execPath, [script, model, String(context), String(threads)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (!child.stdout) throw new Error("the process has no output");
    lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    await heard();
    return `CPU natively, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  },
  async ask(_page, messages, maxTokens) {
    child?.stdin?.write(`${JSON.stringify({ messages, maxTokens })}\n`);
    return heard<Answer>();
  },
  wasmMemory: () => Promise.resolve(null),
  close() {
    child?.kill();
    child = null;
  },
});
