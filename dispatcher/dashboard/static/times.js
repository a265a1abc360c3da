// Shows times in the viewer's zone; the title keeps UTC.
const language = document.documentElement.lang;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const format = new Intl.DateTimeFormat(language, {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});
const withYear = new Intl.DateTimeFormat(language, {
  day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});

export function localTimes(root) {
  const thisYear = new Date().getFullYear();
  for (const time of root.querySelectorAll('time[datetime]:not([title])')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.textContent;
    time.textContent = (at.getFullYear() === thisYear ? format : withYear).format(at);
  }
  const note = document.querySelector('[data-zone]');
  if (note) {
    note.hidden = false;
    note.querySelector('b').textContent = zone;
  }
}
