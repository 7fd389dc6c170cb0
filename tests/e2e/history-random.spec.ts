/** Two tabs do anything in any order while reads and writes fail: what is stored is what was asked. */
import { expect, test } from "../support/fixtures.ts";
import { startFakeSite, Tab, type StoredMessage } from "../support/fake.ts";
import { Model, randomFrom, textOf, type Node } from "../support/history-model.ts";

const STEPS = 500;
const SEED = 20_261_126;

type Random = () => number;

function pick<T>(random: Random, list: readonly T[]): T {
  const item = list[Math.floor(random() * list.length)];
  if (item === undefined) throw new Error("the list is empty");
  return item;
}

/** Types a question and sends it. */
function send(tab: Tab, text: string): Promise<void> {
  return tab.page.evaluate((typed) => {
    const box = document.querySelector<HTMLTextAreaElement>("#message");
    if (box === null) throw new Error("there is no textbox");
    box.value = typed;
    box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    box.form?.requestSubmit();
  }, text);
}

/** Presses a button by its name, the `index`-th of that name. */
function press(tab: Tab, name: string, index = 0): Promise<void> {
  return tab.page.evaluate(
    async ([wanted, at]) => {
      const found = () =>
        [...document.querySelectorAll<HTMLButtonElement>("button")].filter(
          (button) => (button.getAttribute("aria-label") ?? button.textContent?.trim()) === wanted,
        )[at];
      // A button that the last press made appears with the next frame.
      for (let frames = 0; frames < 300 && found() === undefined; frames++)
        await new Promise((resolve) => requestAnimationFrame(resolve));
      const button = found();
      if (button === undefined) throw new Error(`there is no button "${wanted}" ${at}`);
      button.click();
    },
    [name, index] as const,
  );
}

function setFaults(tab: Tab, faults: { read?: boolean; write?: boolean }): Promise<void> {
  return tab.page.evaluate((given) => void Object.assign(window.faults, given), faults);
}

/** Waits until a tab shows what the model says. */
async function shows(tab: Tab, model: Model, number: number, what: string): Promise<void> {
  const expected = {
    path: model.path(number).map(({ text }) => text),
    titles: model.talks.map(({ title }) => title).sort(),
  };
  try {
    await tab.page.waitForFunction(
      (wanted) => {
        const { path, titles, isBusy } = window.shown();
        return !isBusy && JSON.stringify({ path, titles: titles.sort() }) === wanted;
      },
      JSON.stringify(expected),
      { timeout: 10_000 },
    );
  } catch {
    expect(await tab.page.evaluate(() => window.shown()), what).toEqual({ ...expected, isBusy: false });
  }
}

/** Lets the page say what it shows. Runs before its own scripts. */
function installShown(): void {
  const texts = (selector: string) =>
    [...document.querySelectorAll(selector)].map((element) => element.textContent?.trim() ?? "");
  window.shown = () => ({
    path: texts(".question .plain, .answer .markdown"),
    titles: texts(".conversation-open"),
    isBusy: document.querySelector(".answer-foot.live, .waiting") !== null,
  });
}

declare global {
  interface Window {
    shown(): { path: string[]; titles: string[]; isBusy: boolean };
  }
}

/** What is stored, in the model's words. */
async function stored(tab: Tab): Promise<string[]> {
  const { conversations, messages } = await tab.stored();
  const nodeOf = (message: StoredMessage): Node => ({
    text: message.content ?? "",
    parent: null,
    children: messages.filter(({ parent }) => parent === message.id).map(nodeOf),
  });
  const texts = conversations.map(({ id, title }) => {
    const roots = messages.filter((message) => message.conversation === id && message.parent === null);
    return `${title}: ${roots.map(nodeOf).map(textOf).sort().join(" ")}`;
  });
  const owned = new Set(conversations.map(({ id }) => id));
  expect(messages.filter(({ conversation }) => !owned.has(conversation))).toEqual([]);
  return texts.sort();
}

test(`${STEPS} random steps in two tabs, with failing reads and writes`, async ({ shared }) => {
  const site = await startFakeSite();
  const tabs = [await Tab.open(shared, site), await Tab.open(shared, site)];
  for (const { page } of tabs) {
    await page.addInitScript(installShown);
    // Painting takes a sixth of the time.
    await page.setViewportSize({ width: 920, height: 240 });
    await page.reload();
  }
  const random = randomFrom(SEED);
  const model = new Model(tabs.length);
  const done: Record<string, number> = {};

  for (let step = 0; step < STEPS; step++) {
    const number = Math.floor(random() * tabs.length);
    const tab = tabs[number] as Tab;
    const view = model.view(number);
    const shownBefore = view.talk;
    const name = `q${step}`;
    const fails = random() < 0.2;

    const ask = async () => {
      await send(tab, name);
      model.ask(number, name);
    };
    const changes: Record<string, () => Promise<void>> = {
      ask,
      edit: async () => {
        const questions = model.path(number).filter((_, index) => index % 2 === 0);
        if (questions.length === 0) return ask();
        const question = pick(random, questions);
        await press(tab, "Edit question", questions.indexOf(question));
        await send(tab, name);
        model.edit(number, question, name);
      },
      regenerate: async () => {
        if (view.leaf === null) return ask();
        await press(tab, "Regenerate");
        model.regenerate(number);
      },
      choose: async () => {
        const forked = model
          .path(number)
          .map((node) => ({ node, versions: node.parent?.children ?? view.talk?.roots ?? [] }))
          .filter(({ versions }) => versions.length > 1);
        if (forked.length === 0) return ask();
        const { node, versions } = pick(random, forked);
        const at = versions.indexOf(node);
        const to = at === 0 ? 1 : at - 1;
        const index = forked.findIndex((other) => other.node === node);
        await press(tab, to < at ? "Previous version" : "Next version", index);
        model.choose(number, versions[to] as Node);
      },
      rename: async () => {
        if (model.talks.length === 0) return ask();
        const talk = pick(random, model.talks);
        await press(tab, `More for “${talk.title}”`);
        await press(tab, "Rename");
        await tab.page.evaluate(async (title) => {
          const input = () => document.querySelector<HTMLInputElement>(".rename input");
          while (input() === null) await new Promise((resolve) => requestAnimationFrame(resolve));
          const box = input() as HTMLInputElement;
          box.value = title;
          box.form?.requestSubmit();
        }, name);
        model.rename(talk, name);
      },
      delete: async () => {
        if (model.talks.length === 0) return ask();
        const talk = pick(random, model.talks);
        await press(tab, `More for “${talk.title}”`);
        await press(tab, `Delete “${talk.title}”`);
        model.delete(talk);
      },
      deleteAll: async () => {
        if (model.talks.length === 0) return ask();
        await press(tab, "Delete all");
        for (const talk of model.talks) model.delete(talk);
      },
      /** Both tabs ask at once, in different conversations. */
      together: async () => {
        const [first, second] = model.views;
        if (fails || (first?.talk === second?.talk && first?.talk !== null)) return ask();
        await Promise.all(tabs.map((other, index) => send(other, `${name}-${index}`)));
        for (const index of tabs.keys()) model.ask(index, `${name}-${index}`);
      },
    };
    const looks: Record<string, () => Promise<void>> = {
      open: async () => {
        if (model.talks.length === 0) return;
        const talk = pick(random, model.talks);
        await press(tab, talk.title);
        model.open(number, talk);
      },
      reload: async () => {
        const faults = fails ? '{"read":true}' : "{}";
        await tab.page.evaluate((given) => sessionStorage.setItem("faults", given), faults);
        await tab.page.reload();
        await tab.page.evaluate(() => sessionStorage.removeItem("faults"));
        model.reload(number);
      },
      newChat: async () => {
        await press(tab, "New chat");
        model.newChat(number);
      },
    };
    const weights = {
      ask: 12,
      edit: 5,
      regenerate: 3,
      choose: 3,
      rename: 2,
      delete: 2,
      deleteAll: 0.2,
      together: 2,
      open: 6,
      reload: 3,
      newChat: 4,
    };
    const names = Object.keys(weights) as (keyof typeof weights)[];
    let left = random() * Object.values(weights).reduce((sum, weight) => sum + weight, 0);
    const kind = names.find((candidate) => (left -= weights[candidate]) < 0) ?? "ask";
    const what = `step ${step}: ${kind}${fails ? ", failing" : ""}, in tab ${number}`;
    done[kind] = (done[kind] ?? 0) + 1;

    const change = changes[kind];
    if (change !== undefined) {
      if (fails) await setFaults(tab, { write: true });
      await change();
      await shows(tab, model, number, what);
      if (fails) {
        await expect(tab.lasting, what).toHaveCount(1);
        if (random() < 0.3) {
          // The tab is closed over what it could not store; the next page stores it.
          await tab.page.reload();
          model.reload(number);
        } else {
          await setFaults(tab, { write: false });
          await press(tab, "Try again");
        }
      }
    } else {
      if (fails) await setFaults(tab, { read: true });
      await looks[kind]?.();
      const { talk } = model.view(number);
      const isUnread = fails && talk !== null && (kind === "reload" || talk !== shownBefore);
      if (isUnread) await expect(tab.alert, what).toContainText("could not be read");
      if (isUnread && random() < 0.5) {
        // What is asked meanwhile goes into a conversation of its own.
        await send(tab, name);
        model.newChat(number);
        model.ask(number, name);
        await expect(tab.answers, what).toHaveText([`Answer to ${name}`]);
        await setFaults(tab, { read: false });
        await press(tab, "Try again");
      } else if (fails) {
        await setFaults(tab, { read: false });
        if (isUnread) await tab.alert.getByRole("button", { name: "Try again" }).click();
        if (kind === "reload") await tab.lasting.getByRole("button", { name: "Try again" }).click();
        // The other tab's news may have come while reads failed.
        else
          await tab.page.evaluate(() =>
            document.querySelector<HTMLElement>(".bar:not(.passing) button")?.click(),
          );
      }
    }
    for (const [index, other] of tabs.entries()) {
      await expect(other.lasting, what).toHaveCount(0);
      await shows(other, model, index, what);
    }
    if (step % 25 === 24 || step === STEPS - 1)
      await expect.poll(() => stored(tab), { message: what }).toEqual(model.texts());
  }
  console.log(`stored ${model.talks.length} conversations after ${JSON.stringify(done)}`);
  for (const tab of tabs) expect(tab.errors).toEqual([]);
  for (const { page } of tabs) await page.close();
  await site.stop();
});
