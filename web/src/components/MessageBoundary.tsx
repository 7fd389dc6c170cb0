import { Component, type ComponentChildren } from "preact";
import { t } from "../i18n";
import { PlainText } from "./PlainText";

interface BoundaryProps {
  /** Shown if rendering the children fails. */
  text: string;
  children: ComponentChildren;
}

/** Error boundary of one message: if it cannot be rendered, its text is shown instead. */
export class MessageBoundary extends Component<BoundaryProps, { failed: string | null }> {
  override state: { failed: string | null } = { failed: null };

  override componentDidCatch(error: unknown): void {
    console.warn("nomoat: a message could not be rendered:", error);
    this.setState({ failed: this.props.text });
  }

  override render({ text, children }: BoundaryProps, { failed }: { failed: string | null }) {
    // A text that has changed since then is tried again.
    if (failed !== text) return children;
    return (
      <>
        <p class="note">{t.value.shownAsText}</p>
        <PlainText text={text} />
      </>
    );
  }
}
