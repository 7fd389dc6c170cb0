import type { ToolUse } from "../history/records";
import { t } from "../i18n";
import { asked, type Asked } from "../state/tools";
import { PlainText } from "./PlainText";

/** Arguments for reading; what is no JSON as it is. */
function readable(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 1);
  } catch {
    return json;
  }
}

/** Asks the person about a call. */
function Question({ use, question }: { use: ToolUse; question: Asked }) {
  const text = t.value;
  const { tool, decide } = question;
  const id = `ask-${use.id}`;
  return (
    <div class="tool-question" role="group" aria-labelledby={id} aria-describedby={`${id}-what`}>
      <p id={id}>
        <strong>{text.toolAsks(tool.title)}</strong>
      </p>
      <div id={`${id}-what`}>
        <p class="help">{text.toolsFrom(tool.origin)}</p>
        <PlainText text={tool.description} />
        <p>{text.toolArguments}</p>
        <pre>{readable(use.arguments)}</pre>
        {tool.isConsequential && <p class="help">{text.consequentialTool}</p>}
      </div>
      <div class="buttons">
        <button type="button" class="button" onClick={() => decide("once")}>
          {text.allowOnce}
        </button>
        {!tool.isConsequential && (
          <button type="button" class="button" onClick={() => decide("always")}>
            {text.allowAlways}
          </button>
        )}
        <button type="button" class="button" onClick={() => decide("refuse")}>
          {text.refuseCall}
        </button>
      </div>
    </div>
  );
}

/** A call of a page's tool: what was passed to it, and what it said. */
export function ToolCall({ use, isLive }: { use: ToolUse; isLive: boolean }) {
  const text = t.value;
  const question = asked.value;
  if (isLive && question?.id === use.id) return <Question use={use} question={question} />;
  // The tab that made the call was closed.
  const outcome = use.outcome ?? (isLive ? "running" : "stopped");
  return (
    <details class="tool-call">
      <summary>{text.labelled(text.toolUsed(use.title), text.toolOutcomes[outcome])}</summary>
      {use.origin !== "" && <p class="help">{text.toolsFrom(use.origin)}</p>}
      <p>{text.toolArguments}</p>
      <pre>{readable(use.arguments)}</pre>
      {use.result !== "" && (
        <>
          <p>{text.toolResult}</p>
          <PlainText text={use.result} />
        </>
      )}
    </details>
  );
}
