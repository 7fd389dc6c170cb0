/** The list of models: found, judged, downloaded and switched. The package is scripted. */
import { expect, test } from "../support/fixtures.ts";
import { startFakeSite, Tab } from "../support/fake.ts";
import type { Site } from "../support/server.ts";

let site: Site;

test.beforeAll(async () => {
  site = await startFakeSite();
});

test.afterAll(async () => {
  await site.stop();
});

/** The page and the parts of its picker. */
async function open(shared: Parameters<typeof Tab.open>[0], path: string) {
  const tab = await Tab.open(shared, site, path);
  await tab.page.evaluate(() => localStorage.clear());
  await tab.page.goto(site.origin + path);
  const { page } = tab;
  const dialog = page.getByRole("dialog", { name: "Models" });
  return {
    tab,
    page,
    dialog,
    opener: page.getByRole("button", { name: /^Model: / }),
    search: dialog.getByRole("combobox", { name: "Search models" }),
    option: (name: string | RegExp) => dialog.getByRole("option", { name }),
    button: (name: string | RegExp) => dialog.getByRole("button", { name }),
  };
}

test("the first visit recommends a model for this device, and says why", async ({ shared }) => {
  const { tab, page, dialog, opener, option } = await open(shared, "/?models&echo");
  // The CPU: the largest that is quick enough there.
  await expect(opener).toContainText("Llama 1B");
  await expect(page.locator(".consent")).toContainText("quick enough on this device’s CPU");
  await expect(page.getByRole("button", { name: /^Download and start/ })).toContainText("≈ 743 MB");
  // 743 MB at 8 GB/s, and 2 ms.
  await expect(page.locator(".consent")).toContainText(/743\sMB, about 11 tokens\/s\./);
  await opener.click();
  await expect(dialog.getByRole("group", { name: "Recommended for this device" })).toContainText("Llama 1B");
  await expect(option(/Koala 13B/)).toContainText("too large");
  await expect(option(/SmolLM2/)).not.toContainText("too large");
  await option(/Phi 3B/).click();
  await expect(dialog.locator(".model-details")).toContainText("about 3.4 tokens/s");
  await page.keyboard.press("Escape");
  await expect(opener).toBeFocused();

  // Someone who reads Chinese gets one that writes it.
  await page.evaluate(() => localStorage.setItem("nomoat-settings", JSON.stringify({ language: "zh" })));
  await page.reload();
  await expect(page.getByRole("button", { name: /^模型: / })).toContainText("Qwen 1B");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("the keyboard finds and takes a model, and the conversation stays", async ({ shared }) => {
  const { tab, page, dialog, opener, search, option } = await open(shared, "/?models&stored&echo");
  await tab.message.fill("one");
  await tab.message.press("Enter");
  await expect(tab.answers).toHaveText(["Answer to one"]);
  await opener.focus();
  await page.keyboard.press("Enter");
  await expect(search).toBeFocused();
  const active = () =>
    search.evaluate((box) => {
      const id = box.getAttribute("aria-activedescendant") ?? "";
      return document.getElementById(id)?.querySelector(".model-row-name")?.textContent;
    });
  expect(await active()).toBe("SmolLM2 135M Instruct");
  await expect(option(/SmolLM2/)).toHaveAttribute("aria-selected", "true");
  await page.keyboard.press("ArrowDown");
  expect(await active()).toBe("Llama 1B");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  expect(await active()).toBe("Koala 13B");
  await page.keyboard.type("2023 vic");
  await expect(dialog.getByRole("option")).toHaveCount(1);
  expect(await active()).toBe("Vicuna 7B");
  await search.fill("nothing like it");
  await expect(dialog.getByText("No model found.")).toBeVisible();
  await search.fill("long texts");
  await expect(dialog.getByRole("option")).toHaveCount(1);
  await page.keyboard.press("Enter");
  await expect(dialog).toBeHidden();
  await expect(opener).toContainText("Llama 1B");
  await tab.message.fill("two");
  await tab.message.press("Enter");
  await expect(tab.answers).toHaveText(["Answer to one", "Answer to two"]);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a named model is inspected before its download, and refused with the reason", async ({ shared }) => {
  const { tab, page, dialog, opener, search, button } = await open(shared, "/?models&stored&echo");
  // As if another model had answered here: that counts, and not what was measured.
  await page.evaluate(() => localStorage.setItem("nomoat-bandwidth", JSON.stringify({ cpu: 5.6e9 })));
  await page.reload();
  await opener.click();
  await search.fill("someone/moe-GGUF");
  await page.keyboard.press("Enter");
  await expect(dialog.getByText("Does not run here")).toBeVisible();
  await expect(dialog).toContainText("the model needs a mixture of experts");
  await expect(button(/^Download/)).toHaveCount(0);

  await search.fill("someone/none");
  await button("Inspect someone/none").click();
  await expect(dialog.getByRole("alert")).toContainText("The model was not found");
  await expect(dialog.getByRole("alert")).toContainText('The hub has no repository "someone/none"');

  await shared.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.evaluate(() => navigator.clipboard.writeText("someone/good-GGUF"));
  await search.fill("");
  await search.press("Control+V");
  await expect(dialog.getByText("Runs on the CPU")).toContainText("about 5.6 tokens/s");
  await expect(dialog.locator(".model-details")).toContainText(/1\sGB.*1.5B parameters.*llama.*Q4_K_M.*mit/);
  // A longer context needs more memory.
  const memory = dialog.getByText(/^Memory: /);
  await expect(memory).toHaveText(/1\sGB for the weights \+ 410\sMB for the context = 1.41\sGB/);
  const slider = dialog.getByRole("slider", { name: "Context length" });
  await slider.press("End");
  await expect(slider).toHaveAttribute("aria-valuetext", "16,384");
  await expect(memory).toHaveText(/1.64\sGB for the context = 2.64\sGB/);
  // A link that is dropped is inspected, too.
  await page.keyboard.press("Escape");
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.setData("text/uri-list", "https://hub.test/someone/moe/resolve/main/m.gguf");
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  });
  await expect(dialog.getByText("Does not run here")).toBeVisible();
  await search.fill("someone/good-GGUF");
  await search.press("Enter");
  // Another file of the repository.
  await dialog.getByRole("combobox", { name: "File of someone/good-GGUF" }).selectOption({ index: 1 });
  await expect(memory).toHaveText(/2\sGB for the weights/);
  await button(/^Download and start/).click();
  await expect(opener).toContainText("m-Q8_0");
  await opener.click();
  await expect(dialog.getByRole("group", { name: "Added by you" })).toContainText("m-Q8_0");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("what is too large cannot be taken, and what may not fit is asked about first", async ({ shared }) => {
  const { tab, page, dialog, opener, search, option, button } = await open(shared, "/?models&stored&echo");
  await opener.click();
  await option(/Koala 13B/).click();
  const start = button(/^Download and start/);
  await expect(start).toBeDisabled();
  await expect(start).toHaveAccessibleDescription(/^Memory: about .*It is too large for this device\.$/);
  await expect(button("Download for later")).toHaveCount(0);
  await search.fill("koala");
  await search.press("Enter");
  await expect(dialog).toBeVisible();
  await expect(opener).toContainText("SmolLM2");
  await page.close();
  expect(tab.errors).toEqual([]);
});

test("the download of a model that may not fit is agreed to once more", async ({ shared }) => {
  const { tab, page, dialog, opener, search, option, button } = await open(
    shared,
    "/?models&stored&echo&adapter",
  );
  await opener.click();
  await option(/Koala 13B/).click();
  const question = page.getByRole("group", { name: /^It may not fit: it needs about 8.45\sGB of memory/ });
  await button(/^Download and start/).click();
  await expect(question).toBeFocused();
  // A second press does not agree.
  await page.keyboard.press("Enter");
  await expect(question).toBeVisible();
  await question.getByRole("button", { name: "Cancel" }).click();
  await expect(opener).toContainText("SmolLM2");
  await button("Download for later").click();
  await question.getByRole("button", { name: /^Download anyway – ≈\s8.0\sGB/ }).click();
  const list = dialog.getByRole("region", { name: "Downloads" }).getByRole("listitem");
  await expect(list).toHaveText(/Koala 13B/);
  await button("Stop downloading Koala 13B").click();
  await button("Delete Koala 13B").click();
  await search.fill("koala");
  await search.press("Enter");
  await expect(question).toBeFocused();
  await question.getByRole("button", { name: /^Download anyway/ }).click();
  await expect(dialog).toBeHidden();
  await expect(opener).toContainText("Koala 13B");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a question does not start a download that was not agreed to", async ({ shared }) => {
  const { tab, page, opener } = await open(shared, "/?models&echo&adapter");
  const choose = () =>
    page.evaluate(() => localStorage.setItem("nomoat-settings", JSON.stringify({ modelId: "koala-13b" })));
  await choose();
  await page.reload();
  await tab.button("New chat").click();
  await tab.message.fill("one");
  await tab.message.press("Enter");
  const question = page.getByRole("group", { name: /^It may not fit/ });
  await question.getByRole("button", { name: "Cancel" }).click();
  await expect(tab.message).toHaveValue("one");
  await expect(tab.questions).toHaveCount(0);
  await tab.message.press("Enter");
  await question.getByRole("button", { name: /^Download anyway/ }).click();
  await expect(tab.answers).toHaveText(["Answer to one"]);

  // One that is too large is not even loaded.
  await page.goto(`${site.origin}/?models&echo`);
  await choose();
  await page.evaluate(() => localStorage.removeItem("nomoat-fake-bytes"));
  await page.reload();
  await expect(page.getByRole("button", { name: /^Download and start/ })).toBeDisabled();
  await tab.message.fill("two");
  await tab.message.press("Enter");
  await expect(tab.alert).toContainText("Not enough memory for this model");
  await expect(tab.alert).toContainText(/Koala 13B needs 8.5 GB of memory/);
  await opener.click();
  await page.getByRole("option", { name: /SmolLM2/ }).click();
  await page.getByRole("button", { name: /^Download and start/ }).click();
  await expect(page.locator(".device")).toContainText("CPU");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a shorter context makes room for a named model, and for an opened file", async ({ shared }) => {
  const { tab, page, dialog, opener, search, option, button } = await open(
    shared,
    "/?models&stored&echo&memory=2",
  );
  await page.evaluate(() =>
    localStorage.setItem("nomoat-settings", JSON.stringify({ contextLength: 16_384 })),
  );
  await page.reload();
  await opener.click();
  await option(/Llama 1B/).click();
  await expect(dialog).toContainText("There is no room for so long a context");
  await search.fill("someone/good-GGUF");
  await search.press("Enter");
  const start = button(/^Download and start/);
  await expect(dialog.getByText("Does not run here")).toContainText("It is too large for this device.");
  await expect(start).toBeDisabled();
  const slider = dialog.getByRole("slider", { name: "Context length" });
  await slider.press("Home");
  await expect(dialog.getByText("Runs on the CPU")).toContainText("It may not fit");
  await expect(start).toBeEnabled();

  // An opened file is not loaded before it is clear that it may not fit.
  const file = { name: "mine.gguf", mimeType: "", buffer: Buffer.from("GGUF and more") };
  await dialog.locator("input[type=file]").setInputFiles(file);
  await expect(dialog.getByRole("heading", { name: "mine.gguf" })).toBeVisible();
  await expect(button("Use this model")).toBeDisabled();
  await expect(opener).toContainText("SmolLM2");
  await slider.press("Home");
  await button("Use this model").click();
  await expect(opener).toContainText("mine");
  await expect(tab.page.locator(".device")).toContainText("CPU");
  // Its verdict can be read again, with the context that was chosen.
  await opener.click();
  await button("Inspect").click();
  await expect(dialog.getByText("Runs on the CPU")).toBeVisible();
  await expect(slider).toHaveAttribute("aria-valuetext", "1,024");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("downloads wait for each other, pause, resume and are deleted", async ({ shared }) => {
  const { tab, page, dialog, opener, option, button } = await open(shared, "/?models&stored&echo&slow");
  await opener.click();
  for (const name of [/Llama 1B/, /Qwen 1B/]) {
    await option(name).click();
    await button("Download for later").click();
  }
  const list = dialog.getByRole("region", { name: "Downloads" }).getByRole("listitem");
  await expect(list).toHaveText([/Llama 1B.*being downloaded/, /Qwen 1B.*waiting/]);
  await expect(list.first()).toContainText("41.9 MB");
  await button("Pause Llama 1B").click();
  await expect(list).toHaveText([/Llama 1B.*paused/, /Qwen 1B.*being downloaded/]);
  await expect(option(/Qwen 1B/)).toContainText("being downloaded");
  await button("Resume Llama 1B").click();
  await expect(list.first()).toContainText("waiting");
  await button("Stop downloading Qwen 1B").click();
  await expect(list).toHaveText([/Llama 1B.*being downloaded/]);
  await option(/Llama 1B/).click();
  await button("Delete Llama 1B").click();
  await expect(list).toHaveCount(0);
  await expect(dialog.getByRole("group", { name: "On this device" })).not.toContainText("Llama 1B");
  await expect(button(/^Storage: /)).toBeVisible();
  // The chosen model was left alone.
  await expect(opener).toContainText("SmolLM2");
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("a mirror of the hub is set, and a wrong address is not taken", async ({ shared }) => {
  const { tab, page } = await open(shared, "/?models&stored&echo");
  await page.getByRole("button", { name: "Settings" }).click();
  const address = page.getByRole("textbox", { name: "Address of the hub, or of a mirror" });
  const stored = () =>
    page.evaluate(
      () =>
        (JSON.parse(localStorage.getItem("nomoat-settings") ?? "{}") as { hubEndpoint?: string }).hubEndpoint,
    );
  await address.fill("https://mirror.test/hub/");
  await address.press("Tab");
  expect(await stored()).toBe("https://mirror.test/hub");
  await address.fill("mirror");
  await address.press("Tab");
  await expect(page.getByRole("alert")).toHaveText(/not a web address/);
  expect(await stored()).toBe("https://mirror.test/hub");
  await address.fill("");
  await address.press("Tab");
  expect(await stored()).toBe(null);
  expect(tab.errors).toEqual([]);
  await page.close();
});

test("on a phone, and in Chinese, everything has its name and its place", async ({ shared }) => {
  const { tab, page } = await open(shared, "/?models&stored&echo");
  await page.evaluate(() => localStorage.setItem("nomoat-settings", JSON.stringify({ language: "zh" })));
  await page.setViewportSize({ width: 390, height: 844 });
  await page.reload();
  await page.getByRole("button", { name: /^模型: / }).click();
  const dialog = page.getByRole("dialog", { name: "模型" });
  await expect(dialog.getByRole("combobox", { name: "搜索模型" })).toBeInViewport();
  await dialog.getByRole("option", { name: /Phi 3B/ }).click();
  await dialog.getByRole("button", { name: "查看详情" }).click();
  await expect(dialog.getByText("可在 CPU 上运行")).toBeVisible();
  await dialog.getByRole("button", { name: "打开 GGUF 文件" }).scrollIntoViewIfNeeded();
  await expect(dialog.getByRole("button", { name: "打开 GGUF 文件" })).toBeInViewport();
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  const nameless = await dialog
    .locator("button, input, select, [role=option]")
    .evaluateAll(
      (all) =>
        all.filter(
          (one) =>
            !one.matches("[hidden]") &&
            !one.textContent &&
            !one.ariaLabel &&
            !("labels" in one && (one.labels as NodeList | null)?.length),
        ).length,
    );
  expect(nameless).toBe(0);
  expect(tab.errors).toEqual([]);
  await page.close();
});
