import { t } from "../i18n";
import { send } from "../state/chat";
import { engineState } from "../state/engine";
import { Logo } from "./Logo";

/** What an empty conversation shows. */
export function Welcome() {
  const text = t.value;
  return (
    <div class="welcome">
      <Logo />
      <h1>{text.welcome}</h1>
      <p>{text.tagline}</p>
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
