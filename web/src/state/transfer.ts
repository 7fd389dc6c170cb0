/** Conversations to files and back. */
import { fromJson, NotConversationsError, toJson, toMarkdown } from "../history/transfer";
import { t } from "../i18n";
import { messages, tree } from "./conversation";
import { addAll, everything } from "./history";
import { dialog, notice } from "./ui";

/** More than any export holds; a larger file would not fit into memory several times. */
const MOST_BYTES = 200_000_000;

function download(text: string, name: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the address by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Writes all conversations to a file that the browser downloads. */
export async function exportConversations(format: "json" | "markdown"): Promise<void> {
  const all = await everything([...tree.peek().values(), ...messages.peek()]);
  const day = new Date().toISOString().slice(0, 10);
  if (format === "json") download(toJson(all), `nomoat-${day}.json`, "application/json");
  else {
    const { you, untitled } = t.peek();
    download(toMarkdown(all, { you, untitled }), `nomoat-${day}.md`, "text/markdown");
  }
}

/** Adds the conversations of a file to those that are there; none that is there is changed. */
export async function importConversations(file: File): Promise<void> {
  dialog.value = null;
  try {
    if (file.size > MOST_BYTES) throw new NotConversationsError("The file is too large.");
    const all = fromJson(await file.text());
    await addAll(all);
    notice.value = { kind: "imported", conversations: all.conversations.length };
  } catch (error) {
    notice.value = { kind: "importFailed", error };
  }
}
