import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { dialog } from "../state/ui";
import { Icon } from "./Icon";

interface DialogProps {
  name: NonNullable<typeof dialog.value>;
  title: string;
  /** A drawer slides in from the side; other dialogs are centred. */
  drawer?: boolean;
  /** Two columns, where there is room. */
  wide?: boolean;
  children: ComponentChildren;
}

/** A modal dialog; the browser keeps the focus inside, and gives it back. */
export function Dialog({ name, title, drawer = false, wide = false, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const isOpen = dialog.value === name;

  // At once: an event that comes before the next frame must find the dialog as `dialog` says.
  useLayoutEffect(() => {
    if (isOpen) element.current?.showModal();
    else element.current?.close();
  }, [isOpen]);

  const close = () => {
    if (dialog.peek() === name) dialog.value = null;
  };

  return (
    <dialog
      ref={element}
      class={`dialog${drawer ? " drawer" : ""}${wide ? " wide" : ""}`}
      aria-labelledby={`dialog-${name}`}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || event.defaultPrevented) return;
        event.preventDefault();
        close();
      }}
      onClose={() => {
        // The event comes late: the dialog may have been opened again by now.
        if (element.current?.open !== true) close();
      }}
      onPointerDown={(event) => {
        if (event.target === element.current) close();
      }}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={`dialog-${name}`}>{title}</h2>
          <button
            type="button"
            class="icon-button"
            aria-label={t.value.close}
            title={t.value.close}
            onClick={close}
          >
            <Icon name="close" />
          </button>
        </header>
        {isOpen && children}
      </div>
    </dialog>
  );
}
