/** The history in Firefox, whose IndexedDB has ways of its own. The engine is scripted. */
import type { Page } from "puppeteer-core";
import { installFaults, QUICK, readHistory, startFakeSite } from "../support/fake.ts";
import { launchFirefox } from "../support/firefox.ts";
import { expect, test } from "../support/fixtures.ts";
import { storeVersion1 } from "../support/history.ts";

async function open(page: Page, url: string): Promise<Page> {
  page.setDefaultTimeout(10_000);
  // Wide enough for the list of conversations.
  await page.setViewport({ width: 1280, height: 800 });
  page.on("dialog", (dialog) => void dialog.accept());
  await page.evaluateOnNewDocument(installFaults);
  await page.goto(url);
  return page;
}

/**
 * Waits until a text is on the page. Tabs in the background have no animation frames, so nothing here waits
 * for one.
 */
function says(page: Page, text: string) {
  return page.waitForFunction(
    (wanted) => document.body.textContent?.includes(wanted) ?? false,
    { polling: 50 },
    text,
  );
}

/** Waits until there is no notice. */
function quiet(page: Page) {
  return page.waitForFunction(() => document.querySelector(".bar") === null, { polling: 50 });
}

async function ask(page: Page, question: string): Promise<void> {
  await page.evaluate((text) => {
    const box = document.querySelector<HTMLTextAreaElement>("#message");
    if (box === null) throw new Error("there is no textbox");
    box.value = text;
    box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    box.form?.requestSubmit();
  }, question);
  await says(page, `Answer to ${question}`);
  await page.waitForFunction(() => document.querySelector(".answer-foot.live") === null, { polling: 50 });
}

/** Presses the button with this text, once it is there. */
async function press(page: Page, name: string): Promise<void> {
  await page.waitForFunction(
    (wanted) => {
      const buttons = [...document.querySelectorAll<HTMLElement>("button")];
      const button = buttons.find((candidate) => candidate.textContent?.trim() === wanted);
      button?.click();
      return button !== undefined;
    },
    { polling: 50 },
    name,
  );
}

function shown(page: Page): Promise<string[]> {
  return page.$$eval(".question .plain, .answer .markdown", (parts) =>
    parts.map((part) => part.textContent?.trim() ?? ""),
  );
}

const exchange = (...questions: string[]) => questions.flatMap((text) => [text, `Answer to ${text}`]);

test("Firefox loses nothing: tabs, failing reads and writes, hostile records", async () => {
  const site = await startFakeSite();
  const firefox = await launchFirefox();
  const browser = firefox.page.browser();
  const url = `${site.origin}${QUICK}`;
  const errors: string[] = [];

  // What version 1 stored, strange and deeply nested things among it, while a tab of that version holds it.
  const old = firefox.page;
  await old.goto(`${site.origin}/icon.svg`);
  await old.evaluate(storeVersion1, [
    {
      id: "old",
      title: "Old",
      messages: [
        { id: "q1", role: "user", content: "old question" },
        { id: "a1", role: "assistant", content: "> ".repeat(2000) + "deep", model: "m", ending: "stop" },
        { id: "q2", role: "user" },
      ],
    },
  ]);
  await old.evaluate(
    () =>
      new Promise<void>((resolve) => {
        const request = indexedDB.open("nomoat-chat");
        request.onsuccess = () => resolve(void Object.assign(window, { held: request.result }));
      }),
  );
  const first = await open(await browser.newPage(), url);
  first.on("pageerror", (error) => errors.push(String(error)));
  await says(first, "open in a tab with an older version of this page");
  await ask(first, "meanwhile");
  await old.evaluate(() => (window as unknown as { held: IDBDatabase }).held.close());
  await quiet(first);
  await press(first, "Old");
  await says(first, "This stored message cannot be read.");
  expect(await shown(first)).toHaveLength(2);

  // Two tabs with one conversation.
  await press(first, "New chat");
  await ask(first, "one");
  const second = await open(await browser.newPage(), url);
  second.on("pageerror", (error) => errors.push(String(error)));
  await says(second, "Answer to one");
  await ask(second, "two");
  await says(first, "Answer to two");
  await ask(first, "three");
  await says(second, "Answer to three");
  for (const page of [first, second]) {
    await page.reload();
    await says(page, "Answer to three");
    expect(await shown(page)).toEqual(exchange("one", "two", "three"));
  }
  await second.close();

  // Writes that fail.
  await first.evaluate(() => (window.faults.write = true));
  await ask(first, "four");
  await says(first, "The browser’s storage is full.");
  await first.evaluate(() => (window.faults.write = false));
  await press(first, "Try again");
  await quiet(first);

  // Reads that fail.
  await first.evaluate(() => sessionStorage.setItem("faults", '{"read":true}'));
  await first.reload();
  await says(first, "This conversation could not be read");
  await first.evaluate(() => {
    sessionStorage.removeItem("faults");
    window.faults.read = false;
  });
  await press(first, "Try again");
  await says(first, "Answer to four");
  expect(await shown(first)).toEqual(exchange("one", "two", "three", "four"));
  const { messages } = await first.evaluate(readHistory);
  expect(
    messages.map(({ content }) => content).filter((content) => content?.startsWith("Answer")),
  ).toHaveLength(5);
  expect(messages.find(({ id }) => id === "q2")).toMatchObject({ unreadable: { role: "user" } });

  // A deletion that another tab holds up.
  await old.evaluate(
    () =>
      new Promise<void>((resolve) => {
        const request = indexedDB.open("nomoat-chat");
        request.onsuccess = () => {
          Object.assign(window, { held: request.result });
          indexedDB.deleteDatabase("nomoat-chat").onblocked = () => resolve();
        };
      }),
  );
  await first.reload();
  await says(first, "another tab or the browser is still using them");
  await ask(first, "five");
  await old.evaluate(() => (window as unknown as { held: IDBDatabase }).held.close());
  await quiet(first);
  expect(await shown(first)).toEqual(exchange("five"));
  expect(errors).toEqual([]);
  await firefox.close();
  await site.stop();
});
