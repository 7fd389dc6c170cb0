import { Component, type ComponentChildren } from "preact";
import { t } from "../i18n";
import { PlainText } from "./PlainText";

interface BoundaryProps {
  /** What is shown if the children cannot be. */
  text: string;
  children: ComponentChildren;
}

/** Keeps a message that cannot be rendered from taking the page with it: its text is shown as it is. */
export class MessageBoundary extends Component<BoundaryProps, { failed: string | null }> {
  override state: { failed: string | null } = { failed: null };

  override componentDidCatch(error: unknown): void {
    console.warn("nomoat: a message could not be rendered:", error);
    this.setState({ failed: this.props.text });
  }

  override render({ text, children }: BoundaryProps, { failed }: { failed: string | null }) {
    // A text that has grown since is tried again.
    if (failed !== text) return children;
    return (
      <>
        <p class="note">{t.value.shownAsText}</p>
        <PlainText text={text} />
      </>
    );
  }
}
