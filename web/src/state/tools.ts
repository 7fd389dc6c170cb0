/** Tools that pages offer to the model: which ones a person lets it use, and its calls. */
import { computed, signal } from "@preact/signals";
import type { ChatTool, ChatToolCall, Engine } from "nomoat";
import type { ToolUse } from "../history/records";
import { t } from "../i18n";
import { callTool, modelContext, offeredTools, type OfferedTool } from "../lib/model-context";
import { isRecord, persisted } from "../lib/persisted";
import { wellFormed } from "../lib/text";
import { announcement } from "./ui";

/** Whether the model may use a tool: not at all, if the person agrees to the call, or always. */
export type Permission = "off" | "ask" | "use";

/** What a person allowed. It holds for one definition of a tool: if that changes, the tool is off again. */
interface Grant {
  origin: string;
  name: string;
  definition: string;
  permission: "ask" | "use";
}

/** How often the model may call tools in one answer, and the most characters of a result that it gets. */
export const MOST_ROUNDS = 8;
const LONGEST_RESULT = 6000;
/** Longest name that a request may have. */
const LONGEST_NAME = 64;

function isGrant(value: unknown): value is Grant {
  return (
    isRecord(value) &&
    [value.origin, value.name, value.definition].every((text) => typeof text === "string") &&
    (value.permission === "ask" || value.permission === "use")
  );
}

const grants = persisted<readonly Grant[]>("nomoat-tools", (stored) =>
  Array.isArray(stored) ? stored.filter(isGrant) : [],
);

/** The tools that are offered now. */
export const offered = signal<readonly OfferedTool[]>([]);
/** Those that the model may use. */
export const allowed = computed(() => offered.value.filter((tool) => permissionOf(tool) !== "off"));

function definitionOf({ description, parameters }: OfferedTool): string {
  return JSON.stringify([description, parameters]);
}

function isFor(grant: Grant, tool: OfferedTool): boolean {
  return grant.origin === tool.origin && grant.name === tool.name;
}

/** What the person allowed. A call with consequences is never made without a question. */
export function permissionOf(tool: OfferedTool): Permission {
  const grant = grants.value.find((one) => isFor(one, tool) && one.definition === definitionOf(tool));
  return grant?.permission === "use" && tool.isConsequential ? "ask" : (grant?.permission ?? "off");
}

/** Allows a tool, or takes that back, which stops its call. */
export function setPermission(tool: OfferedTool, permission: Permission): void {
  const others = grants.value.filter((grant) => !isFor(grant, tool));
  const { origin, name } = tool;
  grants.value =
    permission === "off" ? others : [...others, { origin, name, definition: definitionOf(tool), permission }];
  if (permission !== "off") return;
  const isIt = (other: OfferedTool | undefined) => other?.name === name && other.origin === origin;
  if (isIt(asked.peek()?.tool)) asked.peek()?.decide("refuse");
  if (isIt(calling?.tool)) calling?.controller.abort();
}

/** A call that waits for the person's agreement. */
export interface Asked {
  id: string;
  tool: OfferedTool;
  /** Refuses, or allows this call, or all calls of the tool. */
  decide(decision: "refuse" | "once" | "always"): void;
}

export const asked = signal<Asked | null>(null);

/** The call that runs. */
let calling: { tool: OfferedTool; controller: AbortController } | null = null;

/** The tools that a model is told about, by the names that it knows. */
export type NamedTools = ReadonlyMap<string, OfferedTool>;

/** The allowed tools, if the model can be told about them. */
export function toolsFor(engine: Engine): NamedTools {
  const names = new Map<string, OfferedTool>();
  if (engine.model.tools === null) return names;
  for (const tool of allowed.peek()) {
    let name = tool.name.slice(0, LONGEST_NAME);
    for (let count = 2; names.has(name); count++) name = `${tool.name.slice(0, LONGEST_NAME - 4)}_${count}`;
    names.set(name, tool);
  }
  return names;
}

/** The tools in a request. */
export function toolParams(tools: NamedTools): ChatTool[] {
  return Array.from(tools, ([name, { description, parameters }]) => ({
    type: "function",
    function: { name, description: wellFormed(description), parameters },
  }));
}

function inputOf(json: string): Record<string, unknown> | null {
  try {
    const input: unknown = JSON.parse(json || "{}");
    return isRecord(input) ? input : null;
  } catch {
    return null;
  }
}

/** Resolves to the person's decision; an abort refuses. */
function ask(id: string, tool: OfferedTool, signal: AbortSignal): Promise<"refuse" | "once" | "always"> {
  announcement.value = t.value.toolAsks(tool.title);
  return new Promise<"refuse" | "once" | "always">((resolve) => {
    asked.value = { id, tool, decide: resolve };
    signal.addEventListener("abort", () => resolve("refuse"), { once: true });
  }).finally(() => (asked.value = null));
}

/**
 * Makes a call of one of these tools. `report` gets the call before and after. A call that cannot be made, or
 * fails, is answered with the reason, so that the model can go on.
 */
export async function use(
  tools: NamedTools,
  { id, function: { name, arguments: json } }: ChatToolCall,
  place: Pick<ToolUse, "round" | "at">,
  signal: AbortSignal,
  report: (use: ToolUse) => void,
): Promise<ToolUse> {
  const tool = tools.get(name);
  const begun: ToolUse = {
    id,
    name,
    title: tool?.title ?? name,
    origin: tool?.origin ?? "",
    arguments: json,
    result: "",
    outcome: null,
    ...place,
  };
  report(begun);
  const end = (outcome: ToolUse["outcome"], result: string): ToolUse => {
    const text = wellFormed(result);
    const isLong = text.length > LONGEST_RESULT;
    const ended = { ...begun, outcome, result: isLong ? `${text.slice(0, LONGEST_RESULT)} …` : text };
    report(ended);
    return ended;
  };
  const input = inputOf(json);
  // It may have been forbidden since the model was told about it.
  if (tool === undefined || permissionOf(tool) === "off") return end("failed", `There is no tool ${name}.`);
  if (input === null) return end("failed", "The arguments are not a JSON object.");
  if (permissionOf(tool) === "ask") {
    const decision = await ask(id, tool, signal);
    if (signal.aborted) return end("stopped", "");
    if (decision === "refuse") return end("refused", "The person refused this call.");
    if (decision === "always") setPermission(tool, "use");
  }
  const controller = new AbortController();
  calling = { tool, controller };
  const either = AbortSignal.any([signal, controller.signal]);
  try {
    const stopped = new Promise<never>((_, reject) =>
      either.addEventListener("abort", () => reject(new Error("The person stopped this call."))),
    );
    return end("done", await Promise.race([callTool(tool, input, either), stopped]));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return end(either.aborted ? "stopped" : "failed", reason);
  } finally {
    calling = null;
  }
}

const context = modelContext();
let refreshes = 0;

async function refresh(): Promise<void> {
  if (context === null) return;
  const turn = ++refreshes;
  // A document that may not use the API, for example in a frame without permission, has no tools.
  const found = await offeredTools(context).catch(() => []);
  if (turn !== refreshes) return;
  const before = offered.peek().length;
  offered.value = found;
  if (found.length > before) announcement.value = t.value.toolsOffered(offered.value.length);
}

context?.addEventListener("toolchange", () => void refresh());
void refresh();
