import { t } from "../i18n";
import { samples, teachState } from "../state/teach";

/** What the model says to some questions, before and after it learnt, side by side. */
export function Samples() {
  const text = t.value;
  const all = samples.value;
  if (all.length === 0) return null;
  const isRunning = teachState.value.kind === "running";
  const said = (answer: string | null) =>
    answer === null ? <span class="help">{text.sampling}</span> : answer || "–";
  return (
    <table class="samples" aria-busy={all.some(({ after }) => after === null)}>
      <thead>
        <tr>
          <th scope="col">{text.beforeTeaching}</th>
          <th scope="col">{isRunning ? text.soFar : text.afterTeaching}</th>
        </tr>
      </thead>
      {all.map(({ messages, before, after }, index) => (
        <tbody key={index}>
          <tr>
            <th scope="rowgroup" colSpan={2} dir="auto">
              {messages.at(-1)?.content}
            </th>
          </tr>
          <tr>
            <td dir="auto">{said(before)}</td>
            <td dir="auto">{said(after)}</td>
          </tr>
        </tbody>
      ))}
    </table>
  );
}
