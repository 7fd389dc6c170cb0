/** The history as earlier versions of the page stored it. */

/** Stores conversations as version 1 did: all messages of one in one record. Runs in the page. */
export async function storeVersion1(
  conversations: { id: string; title: string; messages: unknown[] }[],
): Promise<void> {
  const open = indexedDB.open("nomoat-chat", 1);
  open.onupgradeneeded = () => {
    open.result.createObjectStore("conversations", { keyPath: "id" });
    open.result.createObjectStore("messages", { keyPath: "id" });
  };
  await new Promise((resolve, reject) => {
    open.onsuccess = resolve;
    open.onerror = reject;
  });
  const write = open.result.transaction(["conversations", "messages"], "readwrite");
  for (const { id, title, messages } of conversations) {
    write.objectStore("conversations").put({ id, title, updatedAt: Date.now() });
    write.objectStore("messages").put({ id, messages });
  }
  await new Promise((resolve) => (write.oncomplete = resolve));
  open.result.close();
}
