import type { Fit } from "nomoat";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { t } from "../i18n";
import { bytes } from "../lib/format";
import { doubt } from "../state/ui";

interface QuestionProps {
  /** Bytes of memory that the model needs. */
  needed: number;
  /** Of the download, for people. */
  size: string | null;
  onAgree: () => void;
  onCancel: () => void;
}

/** Asks once more before the download of a model that may not fit. */
function Question({ needed, size, onAgree, onCancel }: QuestionProps) {
  const text = t.value;
  const id = useId();
  const group = useRef<HTMLDivElement>(null);
  // Not on a button: a second press of Enter must not agree.
  useEffect(() => group.current?.focus(), []);
  return (
    <div ref={group} class="doubt" role="group" aria-labelledby={id} tabIndex={-1}>
      <p id={id}>{text.doubt(bytes(needed))}</p>
      <div class="buttons">
        <button type="button" class="button" onClick={onAgree}>
          {text.downloadAnyway(size)}
        </button>
        <button type="button" class="button" onClick={onCancel}>
          {text.cancel}
        </button>
      </div>
    </div>
  );
}

interface TakeModelProps {
  /** Of the model. */
  id: string;
  fit: Fit | null;
  /** Bytes of memory that it needs. */
  needed: number | null;
  /** Of the download, for people. */
  size: string | null;
  /** Nothing is asked about a model that is here, or has begun to come. */
  isAgreed: boolean;
  startLabel: string;
  /** Null: it runs already. */
  onStart: (() => void) | null;
  downloadLabel?: string;
  /** Null: there is nothing to download. */
  onDownload?: (() => void) | null;
  onCancel?: () => void;
  /** Id of the text that says why it cannot be taken. */
  reason?: string;
  /** Other buttons. */
  children?: ComponentChildren;
}

/**
 * The buttons that start a model or download it. One that is too large cannot be taken, and before the
 * download of one that may not fit they ask.
 */
export function TakeModel({ id, fit, needed, size, isAgreed, reason, ...rest }: TakeModelProps) {
  const { startLabel, onStart, downloadLabel, onDownload = null, onCancel, children } = rest;
  const isDoubtful = fit === "tight" && !isAgreed;
  const isTooLarge = fit === "too-large";
  const take = (then: "start" | "download", act: () => void) => () => {
    if (isDoubtful) doubt.value = { id, then };
    else act();
  };
  const asked = doubt.value?.id === id && isDoubtful ? doubt.value.then : null;
  if (asked !== null && needed !== null)
    return (
      <Question
        needed={needed}
        size={size}
        onAgree={() => {
          doubt.value = null;
          if (asked === "start") onStart?.();
          else onDownload?.();
        }}
        onCancel={() => {
          doubt.value = null;
          onCancel?.();
        }}
      />
    );
  return (
    <div class="buttons">
      {onStart !== null && (
        <button
          type="button"
          class="button primary"
          disabled={isTooLarge}
          aria-describedby={isTooLarge ? reason : undefined}
          onClick={take("start", onStart)}
        >
          {startLabel}
        </button>
      )}
      {onDownload !== null && !isTooLarge && (
        <button type="button" class="button" onClick={take("download", onDownload)}>
          {downloadLabel}
        </button>
      )}
      {children}
    </div>
  );
}
