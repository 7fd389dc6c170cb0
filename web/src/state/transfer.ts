/** Export and import of conversations. */
import { fromJson, NotConversationsError, toJson, toMarkdown } from "../history/transfer";
import { t } from "../i18n";
import { download, today } from "../lib/download";
import { messages, tree } from "./conversation";
import { addAll, everything } from "./history";
import { dialog, notice } from "./ui";

/** Limit for imports: the file is held in memory several times. */
const MOST_BYTES = 200_000_000;

/** Downloads all conversations as a file. */
export async function exportConversations(format: "json" | "markdown"): Promise<void> {
  const all = await everything([...tree.peek().values(), ...messages.peek()]);
  if (format === "json") download(toJson(all), `nomoat-${today()}.json`, "application/json");
  else {
    download(toMarkdown(all, t.peek()), `nomoat-${today()}.md`, "text/markdown");
  }
}

/** Adds the conversations of a file. Existing ones are not changed. */
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
