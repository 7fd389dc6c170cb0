import type { ComponentChildren } from "preact";

interface Props {
  id: string;
  label: string;
  help?: string;
  children: ComponentChildren;
}

/** A control with its label, and words of help that it can be described by: `ID-help`. */
export function Field({ id, label, help, children }: Props) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children}
      {help !== undefined && (
        <p id={`${id}-help`} class="help">
          {help}
        </p>
      )}
    </div>
  );
}
