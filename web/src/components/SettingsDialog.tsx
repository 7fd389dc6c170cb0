import type { DeviceChoice } from "nomoat";
import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { config } from "../state/config";
import { followSettings, recommendedSampling, serverInUse } from "../state/engine";
import { chosenModel } from "../state/models";
import { sampling } from "../state/sampling";
import {
  contextLengths,
  devices,
  hubAddress,
  limits,
  settings,
  setTemplate,
  templateOf,
  templates,
  updateSettings,
  type LanguageSetting,
  type ThemeSetting,
} from "../state/settings";
import { dialog } from "../state/ui";
import { Dialog } from "./Dialog";
import { Field } from "./Field";
import { Icon } from "./Icon";
import { Select } from "./Select";

function Temperature() {
  const text = t.value;
  const { temperature } = settings.value;
  const isRemote = serverInUse.value !== null;
  const suits = isRemote ? temperature : sampling(temperature, false, recommendedSampling.value).temperature;
  // Servers mostly take 1, if nothing is asked for.
  const value = suits ?? (isRemote ? 1 : 0);
  const shown = value.toFixed(1);
  const usual = isRemote ? text.serversTemperature : text.suitsModel(shown);
  return (
    <Field
      id="temperature"
      label={text.labelled(text.temperature, temperature === null ? usual : shown)}
      help={text.temperatureHelp}
    >
      <input
        id="temperature"
        type="range"
        aria-label={text.temperature}
        aria-describedby="temperature-help"
        {...limits.temperature}
        step={0.1}
        value={value}
        onInput={(event) => updateSettings({ temperature: event.currentTarget.valueAsNumber })}
      />
      {temperature !== null && (
        <button type="button" class="quiet-button" onClick={() => updateSettings({ temperature: null })}>
          {text.suitModel}
        </button>
      )}
    </Field>
  );
}

/** The chosen model's chat template. A server has its own. */
function Template() {
  const text = t.value;
  const model = chosenModel.value;
  if (model === null || model.remote) return null;
  const nameOf = (name: string) => text.templates[name] ?? name;
  const { template: own } = model;
  return (
    <Field
      id="template"
      label={text.labelled(text.template, model.name)}
      help={text.templateHelp(model.name)}
    >
      <Select
        id="template"
        aria-describedby="template-help"
        value={templateOf(model.id) ?? ""}
        onChange={(event) => setTemplate(model.id, event.currentTarget.value || null)}
      >
        <option value="">
          {own === undefined ? text.templateOfFile : text.labelled(text.templateOfFile, nameOf(own))}
        </option>
        {templates.map((name) => (
          <option key={name} value={name}>
            {nameOf(name)}
          </option>
        ))}
      </Select>
    </Field>
  );
}

function Answers() {
  const text = t.value;
  const now = settings.value;
  return (
    <section>
      <h3>{text.answers}</h3>
      <Field id="system-prompt" label={text.systemPrompt} help={text.systemPromptHelp}>
        <textarea
          id="system-prompt"
          rows={3}
          dir="auto"
          aria-describedby="system-prompt-help"
          value={now.systemPrompt}
          onInput={(event) => updateSettings({ systemPrompt: event.currentTarget.value })}
        />
      </Field>
      <Temperature />
      <div class="fields">
        <Field id="max-tokens" label={text.maxTokens} help={text.maxTokensHelp}>
          <input
            id="max-tokens"
            type="number"
            inputMode="numeric"
            aria-describedby="max-tokens-help"
            {...limits.maxTokens}
            value={now.maxTokens}
            onChange={(event) => {
              const { valueAsNumber, validity } = event.currentTarget;
              if (validity.valid && Number.isInteger(valueAsNumber))
                updateSettings({ maxTokens: valueAsNumber });
              else event.currentTarget.valueAsNumber = now.maxTokens;
            }}
          />
        </Field>
        <Field id="context-length" label={text.contextLength} help={text.contextLengthHelp}>
          <Select
            id="context-length"
            aria-describedby="context-length-help"
            value={now.contextLength}
            onChange={(event) => updateSettings({ contextLength: Number(event.currentTarget.value) })}
          >
            {contextLengths.map((length) => (
              <option key={length} value={length}>
                {length.toLocaleString("en")}
              </option>
            ))}
          </Select>
        </Field>
      </div>
      <Field id="thinking-budget" label={text.thinkingBudget} help={text.thinkingBudgetHelp}>
        <input
          id="thinking-budget"
          type="number"
          inputMode="numeric"
          aria-describedby="thinking-budget-help"
          {...limits.thinkingBudget}
          placeholder={text.noLimit}
          value={now.thinkingBudget ?? ""}
          onChange={(event) => {
            const { value, valueAsNumber, validity } = event.currentTarget;
            if (value === "" && validity.valid) updateSettings({ thinkingBudget: null });
            else if (validity.valid && Number.isInteger(valueAsNumber))
              updateSettings({ thinkingBudget: valueAsNumber });
            else event.currentTarget.value = String(now.thinkingBudget ?? "");
          }}
        />
      </Field>
      {serverInUse.value !== null && <p role="note">{text.settingsNotOnServer}</p>}
      <Field id="device" label={text.device} help={text.deviceHelp}>
        <Select
          id="device"
          aria-describedby="device-help"
          value={now.device}
          onChange={(event) => updateSettings({ device: event.currentTarget.value as DeviceChoice })}
        >
          {devices.map((device) => (
            <option key={device} value={device}>
              {text.devices[device]}
            </option>
          ))}
        </Select>
      </Field>
      <Template />
    </section>
  );
}

function Appearance() {
  const text = t.value;
  const now = settings.value;
  return (
    <section>
      <h3>{text.appearance}</h3>
      <div class="fields">
        <Field id="language" label={text.language}>
          <Select
            id="language"
            value={now.language}
            onChange={(event) => updateSettings({ language: event.currentTarget.value as LanguageSetting })}
          >
            <option value="auto">{text.automatic}</option>
            <option value="en" lang="en">
              English
            </option>
            <option value="zh" lang="zh-Hans">
              中文
            </option>
          </Select>
        </Field>
        <Field id="theme" label={text.theme}>
          <Select
            id="theme"
            value={now.theme}
            onChange={(event) => updateSettings({ theme: event.currentTarget.value as ThemeSetting })}
          >
            <option value="auto">{text.automatic}</option>
            <option value="light">{text.light}</option>
            <option value="dark">{text.dark}</option>
          </Select>
        </Field>
      </div>
    </section>
  );
}

function Hub() {
  const text = t.value;
  const [isInvalid, setInvalid] = useState(false);
  return (
    <section>
      <h3>{text.hub}</h3>
      <Field id="hub-endpoint" label={text.hubEndpoint}>
        <input
          id="hub-endpoint"
          type="url"
          inputMode="url"
          spellcheck={false}
          placeholder={config.value.hubEndpoint ?? "https://huggingface.co"}
          aria-invalid={isInvalid}
          aria-describedby="hub-endpoint-help"
          value={settings.value.hubEndpoint ?? ""}
          onChange={(event) => {
            const { value } = event.currentTarget;
            const address = hubAddress(value);
            const isEmpty = value.trim() === "" && !event.currentTarget.validity.badInput;
            setInvalid(address === null && !isEmpty);
            if (address !== null || isEmpty) updateSettings({ hubEndpoint: address });
          }}
        />
        <p id="hub-endpoint-help" class="help" role={isInvalid ? "alert" : undefined}>
          {isInvalid ? text.hubInvalid : text.hubHelp}
        </p>
      </Field>
    </section>
  );
}

/**
 * Context length, device and chat template are fixed when a model is loaded, so after a change the model
 * loads again when the dialog closes.
 */
function ReloadOnClose() {
  useEffect(() => {
    const loadedWith = () => {
      const { contextLength, device } = settings.peek();
      const model = chosenModel.peek();
      return JSON.stringify([contextLength, device, model && templateOf(model.id)]);
    };
    const before = loadedWith();
    return () => {
      if (loadedWith() !== before) followSettings();
    };
  }, []);
  return null;
}

export function SettingsDialog() {
  const text = t.value;
  return (
    <Dialog name="settings" title={text.settings}>
      <ReloadOnClose />
      <Answers />
      <Appearance />
      <Hub />
      <button type="button" class="button" onClick={() => (dialog.value = "storage")}>
        <Icon name="disk" />
        {text.storage}
      </button>
    </Dialog>
  );
}
