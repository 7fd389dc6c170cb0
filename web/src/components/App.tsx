import { t } from "../i18n";
import { announcement, isWide } from "../state/ui";
import { ArenaDialog } from "./ArenaDialog";
import { Composer } from "./Composer";
import { Conversations } from "./Conversations";
import { Dialog } from "./Dialog";
import { DropTarget } from "./DropTarget";
import { Header } from "./Header";
import { HistoryNotice, PassingNotice } from "./HistoryNotice";
import { Log } from "./Log";
import { Logo } from "./Logo";
import { ModelsDialog } from "./ModelsDialog";
import { ModelStatus } from "./ModelStatus";
import { SettingsDialog } from "./SettingsDialog";
import { StorageDialog } from "./StorageDialog";
import { TeachDialog } from "./TeachDialog";
import { ToolsDialog } from "./ToolsDialog";
import { UpdatePrompt } from "./UpdatePrompt";

export function App() {
  return (
    <div class="app">
      {isWide.value ? (
        <aside class="sidebar">
          <p class="brand">
            <Logo />
            Nomoat
          </p>
          <Conversations />
        </aside>
      ) : (
        <Dialog name="conversations" title={t.value.conversations} drawer>
          <Conversations />
        </Dialog>
      )}
      <main class="main">
        <Header />
        <HistoryNotice />
        <PassingNotice />
        <Log />
        <div class="foot">
          <ModelStatus />
          <Composer />
        </div>
      </main>
      <SettingsDialog />
      <StorageDialog />
      <ModelsDialog />
      <TeachDialog />
      <ArenaDialog />
      <ToolsDialog />
      <UpdatePrompt />
      <DropTarget />
      <p class="visually-hidden" role="status">
        {announcement.value}
      </p>
    </div>
  );
}
