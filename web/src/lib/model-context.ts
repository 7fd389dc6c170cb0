/**
 * WebMCP (https://webmachinelearning.github.io/webmcp/) as an agent in a page uses it: the tools that this
 * document, others of its tab, and extensions offer. All that comes from there is hostile until checked.
 */
import * as v from "valibot";
import { isRecord } from "./persisted";

/** A tool as the browser names it. It wants the same object back for a call. */
interface RegisteredTool {
  readonly name: string;
}

interface ModelContext extends EventTarget {
  getTools(options?: { fromOrigins?: string[] }): Promise<RegisteredTool[]>;
  executeTool(
    tool: RegisteredTool,
    input: Record<string, unknown>,
    options: { signal: AbortSignal },
  ): Promise<string | null>;
}

/** A tool that a page offers. */
export interface OfferedTool {
  name: string;
  /** For people; the name if the page gives none. */
  title: string;
  description: string;
  /** JSON Schema of the arguments. */
  parameters: Record<string, unknown>;
  /** Origin of the page that offers it. */
  origin: string;
  /** The page says that a call only reads. */
  isReadOnly: boolean;
  /** The page says that a call has consequences, such as a payment. */
  isConsequential: boolean;
  registered: RegisteredTool;
}

/** Tools that are listed at most, and the longest text of one. */
const MOST_TOOLS = 100;
const LONGEST = 8000;

const tool = v.object({
  name: v.pipe(v.string(), v.regex(/^[\w.-]{1,128}$/)),
  title: v.fallback(v.nullish(v.pipe(v.string(), v.maxLength(200))), null),
  description: v.pipe(v.string(), v.maxLength(LONGEST)),
  inputSchema: v.unknown(),
  origin: v.string(),
  annotations: v.fallback(
    v.nullish(
      v.object({
        readOnlyHint: v.optional(v.boolean(), false),
        consequentialHint: v.optional(v.boolean(), false),
      }),
    ),
    null,
  ),
});

/** The browser's, or a polyfill's; null where a page cannot list tools. */
export function modelContext(): ModelContext | null {
  const found = ([document, navigator] as { modelContext?: Partial<ModelContext> }[]).map(
    (owner) => owner.modelContext,
  );
  const usable = found.find(
    (context) => context?.getTools !== undefined && context.executeTool !== undefined,
  );
  return (usable as ModelContext | undefined) ?? null;
}

/** Origins of the pages around this one, which may offer it tools. */
function ancestors(): string[] {
  return [...new Set(location.ancestorOrigins ?? [])].filter(
    (origin) => origin !== "null" && origin !== location.origin,
  );
}

/** The tools that are offered now. */
export async function offeredTools(context: ModelContext): Promise<OfferedTool[]> {
  const fromOrigins = ancestors();
  const listed = await context.getTools(fromOrigins.length > 0 ? { fromOrigins } : {});
  return listed.slice(0, MOST_TOOLS).flatMap((registered) => {
    // Read property by property: a browser's object has them on its prototype.
    const { name, title, description, inputSchema, origin, annotations } = registered as Partial<
      Record<keyof v.InferInput<typeof tool>, unknown>
    >;
    const read = v.safeParse(tool, { name, title, description, inputSchema, origin, annotations });
    const parameters = read.success ? parsed(read.output.inputSchema) : null;
    if (!read.success || parameters === null) return [];
    return {
      name: read.output.name,
      title: read.output.title?.trim() || read.output.name,
      description: read.output.description,
      parameters,
      origin: read.output.origin,
      isReadOnly: read.output.annotations?.readOnlyHint ?? false,
      isConsequential: read.output.annotations?.consequentialHint ?? false,
      registered,
    };
  });
}

/** A schema as an object, which it is in the draft, or from a text, which older browsers give. */
function parsed(given: unknown): Record<string, unknown> | null {
  try {
    const text = typeof given === "string" ? given : JSON.stringify(given ?? {});
    if (text.length > LONGEST) return null;
    const schema: unknown = text === "" ? {} : JSON.parse(text);
    return isRecord(schema) ? schema : null;
  } catch {
    return null;
  }
}

/** Calls a tool; resolves to its result as text. */
export async function callTool(
  { registered }: OfferedTool,
  input: Record<string, unknown>,
  signal: AbortSignal,
): Promise<string> {
  const context = modelContext();
  if (context === null) throw new Error("The page's tools are gone.");
  const result = await context.executeTool(registered, input, { signal });
  return textOf(result ?? "");
}

const content = v.object({
  content: v.array(v.object({ type: v.literal("text"), text: v.string() })),
});

/** The texts of a result in the shape of the Model Context Protocol; any other as it is. */
function textOf(result: string): string {
  try {
    const read = v.safeParse(content, JSON.parse(result));
    return read.success ? read.output.content.map(({ text }) => text).join("\n") : result;
  } catch {
    return result;
  }
}
