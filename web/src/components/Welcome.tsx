import { t } from "../i18n";
import { send } from "../state/chat";
import { hostOf } from "../lib/servers";
import { engineState, serverInUse } from "../state/engine";
import { Logo } from "./Logo";

/** What an empty conversation shows. */
export function Welcome() {
  const text = t.value;
  const server = serverInUse.value;
  return (
    <div class="welcome">
      <Logo />
      <h1>{text.welcome}</h1>
      <p>{server === null ? text.tagline : text.serverTagline(hostOf(server))}</p>
      {engineState.value.kind !== "failed" && (
        <ul class="suggestions">
          {text.suggestions.map((suggestion) => (
            <li key={suggestion}>
              <button type="button" onClick={() => send(suggestion)}>
                {suggestion}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
