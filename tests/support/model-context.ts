/** WebMCP's `document.modelContext` as its draft says: https://webmachinelearning.github.io/webmcp/ */

/** What a tool of a test does, with the calls that it gets. */
export interface TestTool {
  name: string;
  title?: string;
  description: string;
  inputSchema?: unknown;
  annotations?: { readOnlyHint?: boolean; untrustedContentHint?: boolean; consequentialHint?: boolean };
}

declare global {
  interface Window {
    /** Calls that reached tools: name, arguments, and whether they were aborted. */
    toolCalls: { name: string; input: unknown; isAborted: boolean }[];
    /** Offers a tool: `sum` adds a and b, `fail` throws, `hang` never ends, others tell their arguments. */
    offer(tool: TestTool, exposedTo?: string[]): Promise<void>;
    /** Takes a tool back. */
    withdraw(name: string): void;
  }
}

/** Adds `offer` and `withdraw` to a page, over the browser's own API. Runs in the page. */
export function installTools(): void {
  interface Context {
    registerTool(tool: object, options: { signal: AbortSignal; exposedTo?: string[] }): Promise<void>;
  }
  const controllers = new Map<string, AbortController>();
  window.toolCalls = [];
  window.offer = async (tool, exposedTo) => {
    const controller = new AbortController();
    controllers.set(tool.name, controller);
    const execute = async (input: { a?: number; b?: number }, given?: { signal?: AbortSignal }) => {
      const call = { name: tool.name, input: input as unknown, isAborted: false };
      window.toolCalls.push(call);
      given?.signal?.addEventListener("abort", () => (call.isAborted = true));
      if (tool.name === "fail") throw new Error("the shop is closed");
      if (tool.name === "hang") await new Promise(() => undefined);
      if (tool.name === "sum")
        return { content: [{ type: "text", text: String((input.a ?? 0) + (input.b ?? 0)) }] };
      return { told: input };
    };
    const { modelContext } = document as Document & { modelContext: Context };
    const options = { signal: controller.signal, ...(exposedTo && { exposedTo }) };
    await modelContext.registerTool({ ...tool, execute }, options);
  };
  window.withdraw = (name) => controllers.get(name)?.abort();
}

/** Gives a page a `document.modelContext`. Runs in the page before its scripts. */
export function installModelContext(): void {
  type Input = Record<string, unknown>;
  interface Tool extends Omit<TestTool, "inputSchema"> {
    inputSchema?: object;
    execute(input: Input, options: { signal: AbortSignal }): unknown;
  }
  const failed = (name: string) => new DOMException(`made by the fake: ${name}`, name);
  const parsed = (text: string) => JSON.parse(text) as Input;
  class ModelContext extends EventTarget {
    readonly #tools = new Map<string, { tool: Tool; schema: string | undefined }>();

    #changed(): void {
      setTimeout(() => this.dispatchEvent(new Event("toolchange")));
    }

    async registerTool(tool: Tool, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
      const { name, description, inputSchema } = tool;
      if (this.#tools.has(name) || description === "" || !/^[\w.-]{1,128}$/.test(name))
        throw failed("InvalidStateError");
      signal?.throwIfAborted();
      const schema = inputSchema && JSON.stringify(inputSchema);
      this.#tools.set(name, { tool, schema });
      signal?.addEventListener("abort", () => {
        this.#tools.delete(name);
        this.#changed();
      });
      this.#changed();
    }

    async getTools(): Promise<object[]> {
      const all = [...this.#tools.values()].sort((a, b) => (a.tool.name < b.tool.name ? -1 : 1));
      return all.map(({ tool: { name, title, description, annotations }, schema }) => ({
        name,
        ...(title !== undefined && { title }),
        description,
        ...(schema !== undefined && { inputSchema: parsed(schema) }),
        ...(annotations && { annotations }),
        window,
        origin: location.origin,
      }));
    }

    async executeTool(
      { name, origin }: { name: string; origin: string },
      input: unknown = {},
      { signal }: { signal?: AbortSignal } = {},
    ): Promise<string> {
      if (typeof input !== "object" || input === null) throw new TypeError("the input must be an object");
      signal?.throwIfAborted();
      const found = this.#tools.get(name);
      if (found === undefined || origin !== location.origin) throw failed("UnknownError");
      const controller = new AbortController();
      const aborted = new Promise<never>((_, reject) =>
        signal?.addEventListener("abort", () => {
          controller.abort(signal.reason);
          reject(signal.reason as Error);
        }),
      );
      const run = async () =>
        found.tool.execute(parsed(JSON.stringify(input)), { signal: controller.signal });
      const result = await Promise.race([
        run().catch(() => {
          throw failed("UnknownError");
        }),
        aborted,
      ]);
      return typeof result === "string" ? result : JSON.stringify(result);
    }
  }
  Object.defineProperty(Document.prototype, "modelContext", { value: new ModelContext() });
}
