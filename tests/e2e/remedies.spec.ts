/** Every error has words, and remedies that do what they say. The engine is scripted. */
import {
  ContextLengthError,
  CorruptFileError,
  DeviceLostError,
  DeviceWrongError,
  InternalError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
  NomoatError,
  NoSimdError,
  NoWebGpuError,
  OutOfMemoryError,
  QuotaError,
  UnsupportedModelError,
} from "nomoat";
import { en } from "../../web/src/i18n/en.ts";
import { zh } from "../../web/src/i18n/zh.ts";
import { explain, NotGgufError } from "../../web/src/lib/errors.ts";
import { expect, test } from "../support/fixtures.ts";
import { startFakeSite, Tab } from "../support/fake.ts";

test("an error's remedies fit its cause, in both languages", () => {
  const secure = { isSecureContext: true };
  Object.assign(globalThis, { window: secure });
  const { errors } = en;
  const causes: [error: unknown, title: string, remedies: string][] = [
    [new NoWebGpuError("x"), errors.noWebGpu.title, "cpu reload"],
    [new NoSimdError("x"), errors.noSimd.title, "reload"],
    [new DeviceWrongError("x"), errors.deviceWrong.title, "cpu reload"],
    [new ModelNotFoundError("x", 404), errors.modelNotFound.title, "retry models"],
    [new CorruptFileError("x"), errors.corrupt.title, "retry storage"],
    [new UnsupportedModelError("unsupported_feature", "x"), errors.unsupported.title, "models"],
    [new OutOfMemoryError("x", "cpu"), errors.outOfMemory.title, "retry settings"],
    [new OutOfMemoryError("x", "webgpu"), errors.outOfMemory.title, "retry settings cpu"],
    [new QuotaError("x", 2, 1), errors.quota.title, "storage retry"],
    [new DeviceLostError("x"), errors.deviceLost.title, "retry cpu"],
    [new NetworkError("x"), errors.network.title, "retry"],
    [new ContextLengthError("x"), errors.contextLength.title, "edit remove settings newChat"],
    [new InvalidRequestError("x", "model.url"), errors.modelFiles.title, "addModel models"],
    [new InvalidRequestError("x", "temperature"), errors.invalidRequest.title, "settings edit remove"],
    [new NomoatError("template", "x"), errors.template.title, "models"],
    [new InternalError("x"), errors.internal.title, "retry"],
    ["thrown text", errors.internal.title, "retry"],
    [new NotGgufError("a.txt"), en.notGguf("a.txt"), "addModel"],
  ];
  for (const [error, title, remedies] of causes) {
    const { title: said, help, remedies: offered } = explain(error, en);
    expect([said, offered.join(" ")]).toEqual([title, remedies]);
    expect(help).not.toBe("");
    const chinese = explain(error, zh);
    expect([chinese.remedies, chinese.title]).toEqual([offered, expect.stringMatching(/\p{Script=Han}/u)]);
  }
  // A file of the person's own is neither stored nor downloaded again.
  const own = explain(new CorruptFileError("x"), en, { isOwnFile: true });
  expect([own.title, own.remedies]).toEqual([errors.corruptOwn.title, ["addModel", "models"]]);
  secure.isSecureContext = false;
  expect(explain(new NoWebGpuError("x"), en)).toMatchObject({ ...errors.insecure, remedies: ["cpu"] });
  Reflect.deleteProperty(globalThis, "window");
});

test("each remedy does what it says", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site, "/?stored&echo&error=CorruptFileError");
  const remedy = (name: string) => tab.alert.getByRole("button", { name, exact: true });
  const dialog = (name: string) => tab.page.getByRole("dialog", { name });
  await remedy("Open storage").click();
  await expect(dialog("Storage")).toBeVisible();
  await tab.page.keyboard.press("Escape");
  await remedy("Try again").click();
  await expect(tab.alert).toContainText("CorruptFileError");

  await tab.page.goto(`${site.origin}/?stored&echo&error=UnsupportedModelError`);
  await remedy("Choose another model").click();
  await expect(dialog("Models")).toBeVisible();
  await expect(tab.page.getByRole("combobox", { name: "Search models" })).toBeFocused();

  await tab.page.goto(`${site.origin}/?stored&echo&error=DeviceWrongError`);
  await tab.page.evaluate(() => Object.assign(window, { sameDocument: true }));
  await remedy("Reload").click();
  await tab.page.waitForFunction(() => !("sameDocument" in window));
  await remedy("Continue on the CPU").click();
  await expect(tab.page.locator(".device")).toContainText("CPU");
  await expect(tab.alert).toHaveCount(0);

  await tab.page.goto(`${site.origin}/?stored&echo&prompt-error=InvalidRequestError`);
  await tab.message.fill("one");
  await tab.message.press("Enter");
  await remedy("Open settings").click();
  await expect(dialog("Settings")).toBeVisible();
  await tab.page.keyboard.press("Escape");
  await remedy("Edit the message").click();
  await expect(tab.message).toHaveValue("one");

  await tab.page.goto(`${site.origin}/?stored&echo&prompt-error=ContextLengthError`);
  await tab.button("Answer").click();
  await remedy("New chat").click();
  await expect(tab.questions).toHaveCount(0);
  expect(tab.errors).toEqual([]);
  await tab.page.close();
  await site.stop();
});

test("a download that stands still says so", async ({ shared }) => {
  const site = await startFakeSite();
  const tab = await Tab.open(shared, site, "/?stall");
  await tab.button(/^Download and start/).click();
  const figures = tab.page.getByRole("progressbar");
  await expect(figures).toHaveAttribute("aria-valuetext", /50% – .*waiting for data…$/);
  await expect(tab.page.locator(".loading-figures")).not.toContainText("/s");
  await tab.button("Cancel").click();
  await expect(tab.button(/^Download and start/)).toBeVisible();
  await tab.page.close();
  await site.stop();
});
