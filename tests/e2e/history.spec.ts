/** Conversations in the page, whatever happens to storage and tabs. The engine is scripted. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Message } from "../../web/src/history/records.ts";
import { leafFrom, pathTo } from "../../web/src/history/tree.ts";
import { expect, test } from "../support/fixtures.ts";
import { QUICK, startFakeSite, Tab } from "../support/fake.ts";
import { storeVersion1 } from "../support/history.ts";

test("stored circles and missing parents still have a place", () => {
  const message = (id: string, parent: string | null, createdAt: number): Message => ({
    id,
    conversation: "c",
    parent,
    createdAt,
    role: "user",
    content: id,
  });
  const tree = (...list: Message[]) => new Map(list.map((item) => [item.id, item]));
  const ids = (messages: Map<string, Message>, leaf: string | null) =>
    pathTo(messages, leafFrom(messages, leaf)).map(({ id }) => id);
  const circle = tree(message("a", "c", 1), message("b", "a", 2), message("c", "b", 3));
  expect(ids(circle, null).sort()).toEqual(["a", "b", "c"]);
  expect(ids(circle, "b").sort()).toEqual(["a", "b", "c"]);
  const self = tree(message("a", "a", 1));
  expect(ids(self, "a")).toEqual(["a"]);
  const orphan = tree(message("a", null, 1), message("b", "gone", 2), message("c", "b", 3));
  expect(ids(orphan, null)).toEqual(["b", "c"]);
  expect(ids(orphan, "a")).toEqual(["a"]);
  expect(ids(orphan, "gone")).toEqual(["b", "c"]);
  expect(ids(new Map(), null)).toEqual([]);
});

test("two tabs with one conversation lose nothing, and see each other's messages at once", async ({
  shared,
}) => {
  const site = await startFakeSite();
  const first = await Tab.open(shared, site);
  await first.ask("one");
  const second = await Tab.open(shared, site);
  await expect(second.questions).toHaveText(["one"]);
  await first.ask("two");
  await expect(second.questions).toHaveText(["one", "two"]);
  await second.ask("three");
  const all = ["one", "Answer to one", "two", "Answer to two", "three", "Answer to three"];
  await expect.poll(() => first.shown()).toEqual(all);
  for (const { page } of [first, second]) await page.reload();
  for (const tab of [first, second]) await expect.poll(() => tab.shown()).toEqual(all);
  expect((await first.stored()).messages.map(({ content }) => content).sort()).toEqual(all.toSorted());
  expect([...first.errors, ...second.errors]).toEqual([]);
  await first.page.close();
  await second.page.close();
  await site.stop();
});

test("two tabs that ask at the same moment keep everything", async ({ shared }) => {
  const site = await startFakeSite();
  const tabs = [await Tab.open(shared, site)];
  await tabs[0]?.ask("start");
  const second = await Tab.open(shared, site);
  // What is asked before the conversation has been read begins another one.
  await expect(second.questions).toHaveText(["start"]);
  tabs.push(second);
  const expected = ["start", "Answer to start"];
  for (let round = 0; round < 15; round++) {
    await Promise.all(
      tabs.map(async (tab, index) => {
        const question = `q${round}-${index}`;
        expected.push(question, `Answer to ${question}`);
        await tab.message.fill(question);
        await tab.message.press("Enter");
        await expect(tab.button("Stop")).toHaveCount(0);
        await expect(tab.message).toHaveValue("");
      }),
    );
  }
  await expect
    .poll(async () => (await tabs[0]?.stored())?.messages.map(({ content }) => content).sort())
    .toEqual(expected.sort());
  const { conversations, messages } = (await tabs[0]?.stored()) ?? { conversations: [], messages: [] };
  expect(conversations).toHaveLength(1);
  const ids = new Set(messages.map(({ id }) => id));
  expect(messages.filter(({ parent }) => parent !== null && !ids.has(parent))).toEqual([]);
  for (const tab of tabs) {
    expect(tab.errors).toEqual([]);
    await tab.page.close();
  }
  await site.stop();
});

test("what was written of an answer survives its tab", async ({ shared }) => {
  const site = await startFakeSite();
  const first = await Tab.open(shared, site, "/?stored&slow-answer");
  await first.message.fill("one");
  await first.message.press("Enter");
  await expect(first.answers).toContainText(/\S+ \S+ \S+/);
  const written = (await first.answers.textContent())?.split(" ", 1)[0] ?? "nothing";
  await first.page.close();
  // Another model does not continue it.
  const second = await Tab.open(shared, site, `${QUICK}&model=other`);
  await expect(second.questions).toHaveText(["one"]);
  await expect(second.answers).toContainText(written);
  await expect(second.log).toContainText("This answer was interrupted.");
  await second.button("Regenerate").click();
  await expect(second.answers).toHaveText(["Answer to one"]);
  await second.button("Previous version").click();
  await expect(second.answers).toContainText(written);
  await second.page.close();
  await site.stop();
});

test("deletion is final: a late answer of another tab brings nothing back", async ({ shared }) => {
  const site = await startFakeSite();
  const first = await Tab.open(shared, site);
  await first.ask("one");
  const second = await Tab.open(shared, site, "/?stored&slow-answer");
  await expect(second.questions).toHaveText(["one"]);
  await second.message.fill("two");
  await second.message.press("Enter");
  await expect(first.log).toContainText("Being written in another tab");
  await first.button("Delete all").click();
  await expect(second.page.getByText("This conversation was deleted in another tab.")).toBeVisible();
  await expect(second.questions).toHaveCount(0);
  await expect(second.titles).toHaveCount(0);
  // What it was about to write is refused by the store itself.
  expect(await first.stored()).toEqual({ conversations: [], messages: [] });
  await first.page.close();
  await second.page.reload();
  await expect(second.button("What is the capital of France?")).toBeVisible();
  expect(await second.stored()).toEqual({ conversations: [], messages: [] });
  // A tab that heard nothing of it, such as one that was frozen, cannot bring it back either.
  await second.page.goto(`${site.origin}/?stored&echo`);
  await second.ask("three");
  await second.page.evaluate(() => {
    BroadcastChannel.prototype.postMessage = () => undefined;
  });
  const third = await Tab.open(shared, site);
  await expect(third.questions).toHaveText(["three"]);
  await third.page.evaluate(() => {
    BroadcastChannel.prototype.postMessage = () => undefined;
  });
  await second.button("More for “three”").click();
  await second.button("Delete “three”").click();
  await expect.poll(() => second.stored()).toEqual({ conversations: [], messages: [] });
  await third.message.fill("four");
  await third.message.press("Enter");
  await expect(third.page.getByText("This conversation was deleted in another tab.")).toBeVisible();
  expect(await third.stored()).toEqual({ conversations: [], messages: [] });
  await second.page.close();
  await third.page.close();
  await site.stop();
});

test("a conversation that cannot be read is not an empty one, and nothing overwrites it", async ({
  shared,
}) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site);
  await tab.ask("one");
  const before = await tab.stored();
  await tab.page.evaluate(() => sessionStorage.setItem("faults", '{"read":true}'));
  await tab.page.reload();
  await expect(tab.alert).toContainText("This conversation could not be read");
  await expect(tab.page.locator(".welcome")).toHaveCount(0);
  await expect(tab.page.getByText("Your conversations will be kept here")).toHaveCount(0);
  await expect(tab.bar).toContainText("The list of conversations could not be read.");
  // A question goes elsewhere.
  await tab.ask("two");
  await expect(tab.bar).toContainText("could not be saved");
  await tab.page.evaluate(() => {
    sessionStorage.removeItem("faults");
    window.faults.read = false;
  });
  await tab.bar.getByRole("button", { name: "Try again" }).click();
  await expect(tab.bar).toHaveCount(0);
  await expect(tab.titles).toHaveText(["two", "one"]);
  const after = await tab.stored();
  for (const message of before.messages) expect(after.messages).toContainEqual(message);
  await tab.button("one").click();
  await expect.poll(() => tab.shown()).toEqual(["one", "Answer to one"]);
  // Failing once more, it is read when asked again.
  await tab.page.evaluate(() => (window.faults.read = true));
  await tab.button("two").click();
  await expect(tab.alert).toContainText("This conversation could not be read");
  await tab.page.evaluate(() => (window.faults.read = false));
  await tab.alert.getByRole("button", { name: "Try again" }).click();
  await expect.poll(() => tab.shown()).toEqual(["two", "Answer to two"]);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

test("no stored record takes the page with it; what version 1 stored is kept", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site, "/icon.svg");
  const answer = {
    role: "assistant",
    model: "m",
    ending: "stop",
    completionTokens: 1,
    tokensPerSecond: -0.1,
  };
  const hostile = [
    { id: "q1", role: "user", content: "quotes" },
    { id: "a1", ...answer, content: "> ".repeat(2000) + "deep" },
    { id: "q2", role: "user", content: "lists" },
    { id: "a2", ...answer, content: "- ".repeat(2000) + "deep" },
    { id: "q3", role: "user", content: "mixed" },
    { id: "a3", ...answer, content: "> - 1. ".repeat(1000) + "deep" },
    { id: "q4", role: "user" },
    { id: "a4", ...answer, role: "moderator", content: "unknown role" },
    null,
    "a text",
    { id: "q5", role: "user", content: "**".repeat(5000) + "[".repeat(5000) },
    { id: "a5", ...answer, content: `${"*".repeat(3000)}x${"*".repeat(3000)}\n\n${"[".repeat(5000)}` },
    { id: "q6", role: "user", content: "the end" },
  ];
  await tab.page.evaluate(storeVersion1, [
    { id: "hostile", title: "Hostile", messages: hostile },
    { id: "strange", title: "Strange", messages: "no list" as never },
  ]);
  await tab.page.goto(`${site.origin}/?stored&echo`);
  await tab.button("Hostile").click();
  await expect(tab.questions.last()).toHaveText("the end");
  await expect(tab.log.getByRole("article")).toHaveCount(hostile.length);
  await expect(tab.log.getByText("deep")).toHaveCount(3);
  await expect(tab.log.getByText("This stored message cannot be read.")).toHaveCount(4);
  await expect(tab.log).toContainText("unknown role");
  await expect(tab.page.locator(".figures", { hasText: "tokens/s" })).toHaveCount(0);
  // The conversation goes on, and the strange records stay as they are.
  await tab.button("Answer").click();
  await expect(tab.answers.last()).toContainText("Answer to");
  await tab.page.reload();
  await expect(tab.answers.last()).toContainText("the end");
  const { messages } = await tab.stored();
  expect(messages.find(({ id }) => id === "a4")).toMatchObject({ unreadable: { role: "moderator" } });
  await tab.button("Strange").click();
  await expect(tab.log).toContainText("no list");
  // A record that breaks later, such as one of a newer version.
  await tab.page.evaluate(async () => {
    const open = indexedDB.open("nomoat-chat");
    await new Promise((resolve) => (open.onsuccess = resolve));
    const store = open.result.transaction("messages", "readwrite").objectStore("messages");
    store.put({ id: "x", conversation: "strange", parent: null, role: "tool", content: [1] });
    await new Promise((resolve) => (store.transaction.oncomplete = resolve));
    open.result.close();
  });
  await tab.page.reload();
  await expect(tab.log.getByText("This stored message cannot be read.")).toHaveCount(1);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

test("a database that does not open leaves the page usable, says why, and is used once it opens", async ({
  shared,
}) => {
  const site = await startFakeSite();
  // An older version of the page holds the history and does not make way.
  const old = await Tab.open(shared, site, "/icon.svg");
  await old.page.evaluate(storeVersion1, [
    { id: "old", title: "Old", messages: [{ id: "q", role: "user", content: "old question" }] },
  ]);
  await old.page.evaluate(() => {
    const open = indexedDB.open("nomoat-chat");
    return new Promise<void>((resolve) => {
      open.onsuccess = () => resolve(void Object.assign(window, { held: open.result }));
    });
  });
  const tab = await Tab.open(shared, site);
  await expect(tab.bar).toContainText("open in a tab with an older version of this page");
  await tab.ask("meanwhile");
  await expect(tab.bar.getByRole("button", { name: "Export conversations" })).toBeVisible();
  await old.page.close();
  await expect(tab.bar).toHaveCount(0);
  await expect(tab.titles).toHaveText(["meanwhile", "Old"]);
  await expect
    .poll(async () => (await tab.stored()).messages.map(({ content }) => content).sort())
    .toEqual(["Answer to meanwhile", "meanwhile", "old question"]);

  // This page makes way for a newer version, and for a deletion.
  const newer = await Tab.open(shared, site, "/icon.svg");
  await newer.page.evaluate(() => {
    const open = indexedDB.open("nomoat-chat", 99);
    return new Promise<void>((resolve, reject) => {
      open.onsuccess = () => resolve(open.result.close());
      open.onblocked = () => reject(new Error("the page does not make way"));
    });
  });
  await expect(tab.bar).toContainText("A newer version of this page is open in another tab.");
  await tab.page.reload();
  await expect(tab.bar).toContainText("A newer version of this page is open in another tab.");
  await tab.ask("in memory");
  await expect(tab.bar.getByRole("button", { name: "Export conversations" })).toBeVisible();

  // A deletion that is pending, held up by another tab.
  await newer.page.evaluate(
    () =>
      new Promise<void>((resolve) => {
        const open = indexedDB.open("nomoat-chat");
        open.onsuccess = () => {
          Object.assign(window, { held: open.result });
          indexedDB.deleteDatabase("nomoat-chat").onblocked = () => resolve();
        };
      }),
  );
  await tab.page.reload();
  await expect(tab.bar).toContainText("another tab or the browser is still using them");
  await tab.ask("still in memory");
  await newer.page.evaluate(() => (window as unknown as { held: IDBDatabase }).held.close());
  await expect(tab.bar).toHaveCount(0);
  await expect
    .poll(async () => (await tab.stored()).messages.map(({ content }) => content).sort())
    .toEqual(["Answer to in memory", "Answer to still in memory", "in memory", "still in memory"]);
  expect(tab.errors).toEqual([]);
  await newer.page.close();
  await tab.page.close();
  await site.stop();
});

test("what cannot be stored is said, stays in the tab, and can be exported", async ({ shared, folder }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site);
  await tab.ask("stored");
  await tab.page.evaluate(() => (window.faults.write = true));
  await tab.ask("not stored");
  await expect(tab.bar).toContainText("The browser’s storage is full.");
  await tab.button("New chat").click();
  await tab.ask("another");
  await tab.button("stored").click();
  await expect
    .poll(() => tab.shown())
    .toEqual(["stored", "Answer to stored", "not stored", "Answer to not stored"]);
  await tab.button("another").click();
  await expect.poll(() => tab.shown()).toEqual(["another", "Answer to another"]);
  const downloading = tab.page.waitForEvent("download");
  await tab.bar.getByRole("button", { name: "Export conversations" }).click();
  const file = join(folder, "unsaved.json");
  await (await downloading).saveAs(file);
  for (const text of ["stored", "not stored", "another"])
    expect(readFileSync(file, "utf8")).toContain(`"Answer to ${text}"`);
  await tab.page.evaluate(() => (window.faults.write = false));
  await tab.bar.getByRole("button", { name: "Try again" }).click();
  await expect(tab.bar).toHaveCount(0);
  expect((await tab.stored()).messages).toHaveLength(6);

  // In a full store a deletion still goes through, before what waits for room.
  await tab.page.evaluate(() => {
    const { put } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.put = function (value: unknown) {
      if (this.name === "messages") throw new DOMException("full", "QuotaExceededError");
      return put.call(this, value);
    };
  });
  await tab.ask("no room");
  await expect(tab.bar).toContainText("The browser’s storage is full.");
  await tab.button("More for “stored”").click();
  await tab.button("Delete “stored”").click();
  await expect.poll(async () => (await tab.stored()).messages.map(({ content }) => content)).toHaveLength(2);
  await tab.page.reload();
  await expect
    .poll(() => tab.shown())
    .toEqual(["another", "Answer to another", "no room", "Answer to no room"]);
  await expect(tab.titles).toHaveText(["another"]);

  // Without IndexedDB at all.
  const without = await shared.newPage();
  await without.addInitScript(() => {
    IDBFactory.prototype.open = () => {
      throw new DOMException("forbidden", "SecurityError");
    };
  });
  await without.goto(`${site.origin}/?stored&echo`);
  await expect(without.locator(".bar")).toContainText("This browser cannot store conversations now.");
  await without.getByRole("textbox", { name: "Message" }).fill("in memory");
  await without.keyboard.press("Enter");
  await expect(without.locator(".answer")).toContainText("Answer to in memory");
  await expect(without.locator(".bar").getByRole("button", { name: "Export" })).toBeVisible();
  // It survives the page, too, as far as localStorage goes.
  without.on("dialog", (dialog) => void dialog.accept());
  await without.reload();
  await expect(without.locator(".answer")).toContainText("Answer to in memory");
  await without.close();
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

test("a question that is too long or holds half a character can be edited and removed", async ({
  shared,
}) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site, "/?stored&echo&context=60");
  await tab.ask("short");
  await tab.message.fill("long ".repeat(100));
  await tab.message.press("Enter");
  await expect(tab.alert).toContainText("The message is longer than the model’s context");
  await tab.alert.getByRole("button", { name: "Edit the message" }).click();
  await expect(tab.message).toHaveValue("long ".repeat(100).trim());
  await tab.ask("shorter");
  await expect.poll(() => tab.shown()).toEqual(["short", "Answer to short", "shorter", "Answer to shorter"]);
  await tab.message.fill("long ".repeat(100));
  await tab.message.press("Enter");
  await tab.alert.getByRole("button", { name: "Remove the message" }).click();
  await expect(tab.alert).toHaveCount(0);
  expect((await tab.stored()).messages).toHaveLength(4);
  // Half an emoji is repaired before it is stored or sent.
  await tab.message.fill("half \ud83d emoji");
  await tab.message.press("Enter");
  await expect(tab.answers.last()).toHaveText("Answer to half \ufffd emoji");
  // A conversation past the context goes on without its beginning, and says so.
  for (const word of ["a", "b", "c", "d", "e", "f"]) await tab.ask(`${word} and some more words to fill it`);
  await expect(tab.log.getByText(/The first \d+ messages were left out\./).last()).toBeVisible();
  await expect(tab.alert).toHaveCount(0);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

test("a tab that is opened after a deletion begins another conversation", async ({ shared }) => {
  const site = await startFakeSite();
  const first = await Tab.open(shared, site);
  await first.ask("one");
  await first.button("Delete all").click();
  await expect(first.questions).toHaveCount(0);
  await first.page.close();
  const second = await Tab.open(shared, site);
  await second.ask("two");
  expect(await second.shown()).toEqual(["two", "Answer to two"]);
  await second.page.close();
  await site.stop();
});
