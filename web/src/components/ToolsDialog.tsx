import { t } from "../i18n";
import { isRecord } from "../lib/persisted";
import type { OfferedTool } from "../lib/model-context";
import { engine } from "../state/engine";
import { allowed, offered, permissionOf, setPermission, type Permission } from "../state/tools";
import { dialog } from "../state/ui";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";
import { PlainText } from "./PlainText";
import { Select } from "./Select";

/** The arguments of a tool, as far as its schema names them: name, type, and what they are. */
function Arguments({ parameters }: { parameters: Record<string, unknown> }) {
  const text = t.value;
  const properties = isRecord(parameters.properties) ? Object.entries(parameters.properties) : [];
  const required = Array.isArray(parameters.required) ? parameters.required : [];
  return (
    <div class="tool-arguments">
      <p>
        {properties.length === 0 ? text.labelled(text.toolArguments, text.noArguments) : text.toolArguments}
      </p>
      {properties.length > 0 && (
        <ul>
          {properties.map(([name, schema]) => {
            const { type, description } = isRecord(schema) ? schema : {};
            return (
              <li key={name}>
                <code>{name}</code>
                {typeof type === "string" && ` ${type}`}
                {!required.includes(name) && ` (${text.optional})`}
                {typeof description === "string" && ` – ${description}`}
              </li>
            );
          })}
        </ul>
      )}
    </div>
  );
}

function Tool({ tool, id }: { tool: OfferedTool; id: string }) {
  const text = t.value;
  const choices = (["off", "ask", "use"] as const).filter((one) => one !== "use" || !tool.isConsequential);
  return (
    <li class="tool">
      <div class="tool-head">
        <span>
          <strong>{tool.title}</strong>
          {tool.title !== tool.name && <code>{tool.name}</code>}
        </span>
        <Select
          id={id}
          aria-label={text.permissionFor(tool.title)}
          value={permissionOf(tool)}
          onChange={(event) => setPermission(tool, event.currentTarget.value as Permission)}
        >
          {choices.map((one) => (
            <option key={one} value={one}>
              {text.permissions[one]}
            </option>
          ))}
        </Select>
      </div>
      <PlainText text={tool.description} />
      <Arguments parameters={tool.parameters} />
      {tool.isReadOnly && <p class="help">{text.readOnlyTool}</p>}
      {tool.isConsequential && <p class="help">{text.consequentialTool}</p>}
    </li>
  );
}

function Contents() {
  const text = t.value;
  const origins = [...new Set(offered.value.map(({ origin }) => origin))];
  const isUnsupported = engine.value !== null && engine.value.model.tools === null;
  return (
    <>
      <p class="help">{text.toolsHelp}</p>
      {isUnsupported && (
        <p class="help" role="alert">
          {text.toolsUnsupported}
        </p>
      )}
      {origins.length === 0 && <p class="help">{text.noTools}</p>}
      {origins.map((origin) => (
        <section key={origin}>
          <h3>{text.toolsFrom(origin)}</h3>
          <ul class="tool-list">
            {offered.value
              .filter((tool) => tool.origin === origin)
              .map((tool) => (
                <Tool key={tool.name} tool={tool} id={`tool-${origins.indexOf(origin)}-${tool.name}`} />
              ))}
          </ul>
        </section>
      ))}
    </>
  );
}

/** The tools that pages offer, and what the person lets the model do with them. */
export function ToolsDialog() {
  return (
    <Dialog name="tools" title={t.value.toolsTitle}>
      <Contents />
    </Dialog>
  );
}

/** Says that pages offer tools, and opens the dialog. */
export function ToolsLine() {
  if (offered.value.length === 0) return null;
  return (
    <p class="tools-line">
      <button type="button" class="quiet-button" onClick={() => (dialog.value = "tools")}>
        <Icon name="tool" />
        <span>{t.value.toolsLine(allowed.value.length, offered.value.length)}</span>
      </button>
    </p>
  );
}
