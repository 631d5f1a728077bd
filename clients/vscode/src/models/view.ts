/** The models view. */

import * as vscode from "vscode";
import type { Daemon } from "../daemon/daemon.js";
import { childNodes, show, topNodes, type Node } from "./nodes.js";

export class ModelsView implements vscode.TreeDataProvider<Node>, vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<undefined>();
  readonly #view: vscode.TreeView<Node>;
  readonly onDidChangeTreeData = this.#changed.event;

  constructor(
    private readonly daemon: Daemon,
    private readonly chosenModel: () => string | undefined,
  ) {
    this.#view = vscode.window.createTreeView("ollm.models", { treeDataProvider: this });
  }

  refresh(): void {
    this.#changed.fire(undefined);
  }

  dispose(): void {
    vscode.Disposable.from(this.#view, this.#changed).dispose();
  }

  async getChildren(node?: Node): Promise<Node[]> {
    if (node) {
      return childNodes(node, this.chosenModel());
    }
    return this.daemon.state.kind === "running" ? topNodes(this.daemon) : [];
  }

  getTreeItem(node: Node): vscode.TreeItem {
    const shown = show(node);
    const { Expanded, None } = vscode.TreeItemCollapsibleState;
    const item = new vscode.TreeItem(shown.label, node.kind === "provider" ? Expanded : None);
    item.description = shown.description;
    item.tooltip = shown.tooltip;
    item.iconPath = new vscode.ThemeIcon(shown.icon);
    item.contextValue = shown.context;
    // What an icon shows to others is in the tooltip too.
    item.accessibilityInformation = { label: `${shown.label}: ${shown.tooltip}` };
    return item;
  }
}
