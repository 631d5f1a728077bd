/** A window of VS Code as its user sees and drives it. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Locator, Page } from "playwright-core";
import { CLIENT, newPage, type Workbench } from "./world.js";

/** Where pictures go: into the README's folder when that is wanted, else where failures are looked at. */
const PICTURES = process.env["OLLM_PICTURES"] ? join(CLIENT, "images") : join(CLIENT, "test/e2e/failures");

export class Window {
  constructor(readonly page: Page) {}

  /** The first command palette may take its time. */
  static async open(browser: Browser, bench: Workbench, folder: string): Promise<Window> {
    const page = await newPage(browser);
    await page.goto(`${bench.url}/?folder=${folder}`);
    await page.locator(".explorer-folders-view .monaco-list-row").first().waitFor({ timeout: 60_000 });
    const window = new Window(page);
    await window.bar.waitFor({ timeout: 60_000 });
    return window;
  }

  /** The item of the status bar. */
  get bar(): Locator {
    return this.page.locator('[id="ollm.ollm-vscode.ollm.status"]');
  }

  get input(): Locator {
    return this.page.locator(".quick-input-widget:visible input.input");
  }

  get notifications(): Locator {
    return this.page.locator(".notifications-toasts .notification-list-item");
  }

  get ghost(): Locator {
    return this.page.locator(".editor-instance [class*=ghost-text]");
  }

  async run(title: string): Promise<void> {
    await this.page.keyboard.press("F1");
    await this.input.fill(`>${title}`);
    await this.row(title).click();
  }

  row(text: string): Locator {
    return this.page.locator(".quick-input-list .monaco-list-row", { hasText: text }).first();
  }

  async answer(text: string): Promise<void> {
    await this.input.waitFor();
    await this.input.fill(text);
    await this.page.keyboard.press("Enter");
  }

  async openFile(name: string): Promise<void> {
    await this.page.locator(".explorer-folders-view .monaco-list-row", { hasText: name }).first().dblclick();
    await this.page.locator(`.tab[data-resource-name="${name}"]`).waitFor();
    await this.page.locator(".editor-instance .view-lines").first().click();
  }

  button(name: string): Locator {
    return this.page.locator(".monaco-button, .action-label", { hasText: name }).first();
  }

  async picture(name: string): Promise<void> {
    mkdirSync(PICTURES, { recursive: true });
    await this.page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled" });
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
