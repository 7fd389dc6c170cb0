import { t } from "../i18n";
import { newChat } from "../state/chat";
import { dialog, isDark, isWide } from "../state/ui";
import { updateSettings } from "../state/settings";
import { Icon } from "./Icon";
import { ModelPicker } from "./ModelPicker";

interface ButtonProps {
  icon: Parameters<typeof Icon>[0]["name"];
  label: string;
  onClick: () => void;
}

function HeaderButton({ icon, label, onClick }: ButtonProps) {
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

/** The model picker and the header's buttons. */
export function Header() {
  const text = t.value;
  const dark = isDark.value;
  return (
    <header class="header">
      {!isWide.value && (
        <HeaderButton
          icon="menu"
          label={text.openConversations}
          onClick={() => (dialog.value = "conversations")}
        />
      )}
      <ModelPicker />
      <div class="header-end">
        {isWide.value ? (
          <HeaderButton
            icon={dark ? "sun" : "moon"}
            label={dark ? text.switchToLight : text.switchToDark}
            onClick={() => updateSettings({ theme: dark ? "light" : "dark" })}
          />
        ) : (
          <HeaderButton icon="pen" label={text.newChat} onClick={() => void newChat()} />
        )}
        <HeaderButton icon="teach" label={text.teachTitle} onClick={() => (dialog.value = "teach")} />
        <HeaderButton icon="settings" label={text.settings} onClick={() => (dialog.value = "settings")} />
      </div>
    </header>
  );
}
