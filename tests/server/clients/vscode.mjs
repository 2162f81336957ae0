// Types in VS Code under a headless Chromium; prints what ghost text came and what was accepted.
// node vscode.mjs PLAYWRIGHT CHROMIUM URL SCREENSHOT

const [, , playwright, executablePath, url, screenshot] = process.argv;
const { chromium } = await import(playwright);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
  ],
});
const page = await browser.newPage({ viewport: { width: 1100, height: 650 } });
try {
  await page.goto(url, { timeout: 120000 });
  await page.getByText("main.py").first().dblclick({ timeout: 120000 });
  const lines = page.locator(".monaco-editor .view-lines").first();
  await lines.waitFor({ timeout: 120000 });
  // The server says so in the status bar once it has its model.
  await page
    .locator('.statusbar-item[aria-label*="is ready"], .statusbar-item[aria-label*="codegen"]')
    .first()
    .waitFor({ timeout: 120000 });
  await page.waitForTimeout(15000);
  await lines.click();
  await page.keyboard.press("Control+End");
  const ghost = page.locator(".ghost-text, .ghost-text-decoration").first();
  for (const key of ["v", "a", "l"]) {
    await page.keyboard.type(key);
    try {
      await ghost.waitFor({ state: "attached", timeout: 15000 });
      break;
    } catch {}
  }
  await ghost.waitFor({ state: "attached", timeout: 60000 });
  const parts = await page.locator(".ghost-text, .ghost-text-decoration").allInnerTexts();
  const shown = parts.join("");
  await page.screenshot({ path: screenshot });
  await page.keyboard.press("Tab");
  await page.waitForTimeout(500);
  await page.keyboard.press("Control+S"); // the file on disk shows what was accepted
  await page.waitForTimeout(2000);
  console.log(JSON.stringify({ shown: shown.replace(/\u00a0/g, " ") }));
} catch (error) {
  await page.screenshot({ path: screenshot });
  console.log(JSON.stringify({ error: String(error) }));
} finally {
  await browser.close();
}
