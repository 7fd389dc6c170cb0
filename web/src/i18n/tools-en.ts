/** Texts about tools that pages offer, in English. */
export const toolsEn = {
  toolsTitle: "Tools of pages",
  toolsLine: (on: number, all: number) => `Tools of pages: ${on} of ${all} on`,
  toolsOffered: (count: number) =>
    count === 1 ? "A page offers the model a tool" : `Pages offer the model ${count} tools`,
  toolsHelp:
    "Pages and extensions in this tab offer these tools. None is used unless you allow it. What the model " +
    "passes to a tool goes to the page that offers it, and what the tool says goes to the model: " +
    "a page can try to mislead the model. If a page changes a tool, it is off again.",
  toolsUnsupported: "The model in use cannot use tools.",
  noTools: "No page offers a tool now.",
  toolsFrom: (origin: string) => `From ${origin}`,
  permissionFor: (tool: string) => `Use of ${tool}`,
  permissions: {
    off: "Off",
    ask: "Ask before each call",
    use: "Use without asking",
  },
  readOnlyTool: "The page says that it only reads.",
  consequentialTool: "The page says that a call has consequences: each one is asked about.",
  toolArguments: "Arguments",
  noArguments: "none",
  optional: "optional",
  toolAsks: (tool: string) => `The model wants to use ${tool}`,
  allowOnce: "Allow this call",
  allowAlways: "Always allow",
  refuseCall: "Refuse",
  toolOutcomes: {
    running: "running",
    done: "done",
    failed: "failed",
    refused: "refused",
    stopped: "stopped",
  },
  toolUsed: (tool: string) => `Tool: ${tool}`,
  toolResult: "Result",
};
